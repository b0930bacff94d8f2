"""The two floors, imports without effect, and no trace of anyone's machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("mi_estimator", "pc_softmax", "infocam")
PACKAGES = ("mi_common", *EXPERIMENTS, "scripts")
FORBIDDEN = {
    "mi_common": {*EXPERIMENTS, "scripts", "tests"},
    **{name: ({*EXPERIMENTS} - {name}) | {"scripts", "tests"} for name in EXPERIMENTS},
}
MODULES = [path for package in PACKAGES for path in sorted((REPO / package).rglob("*.py"))]
SOURCES = [
    path
    for folder in (*PACKAGES, "tests", ".ci")
    for path in sorted((REPO / folder).rglob("*"))
    if path.is_file() and path.suffix in ("", ".py", ".sh", ".toml", ".yml", ".yaml")
] + sorted(path for end in ("toml", "txt", "md") for path in REPO.glob(f"*.{end}"))


def name_of(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def imported(source: str, package: str) -> set[str]:
    """Top-level names of all imports, at any depth of a module that lies right in `package`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level < 2:
            names.add(package if node.level else node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            names |= {ast.literal_eval(arg).split(".")[0] for arg in node.args[:1]}
    return names


def test_the_import_reader_sees_every_way_to_import():
    source = """
import infocam.maps.cam as c, os
def late():
    from pc_softmax import train
    from .. import mi_estimator
    from ..scripts.report import main
    importlib.import_module("tests.x")
from . import records
"""
    assert imported(source, "common") == {
        "infocam",
        "os",
        "pc_softmax",
        "mi_estimator",
        "scripts",
        "tests",
        "common",
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_common_imports_no_experiment_and_experiments_never_each_other(package):
    paths = sorted((REPO / package).rglob("*.py"))
    assert len(paths) > 1
    for path in paths:
        found = imported(path.read_text(encoding="utf-8"), package) & FORBIDDEN[package]
        assert not found, f"{name_of(path)} imports {found}"


def test_importing_any_module_prints_nothing_writes_nothing_and_reads_no_arguments(tmp_path):
    """All in one fresh process, started in an empty folder with arguments that no script has."""
    modules = [name_of(path).removesuffix(".py").replace("/", ".") for path in MODULES]
    modules = [name.removesuffix(".__init__") for name in modules]
    code = f"""
import importlib, random, sys, torch
sys.path.insert(0, {str(REPO)!r})
threads, random_state = torch.get_num_threads(), random.getstate()
torch_state = torch.get_rng_state()
for name in {modules!r}:
    importlib.import_module(name)
assert torch.get_num_threads() == threads
assert random.getstate() == random_state
assert torch.equal(torch.get_rng_state(), torch_state)
assert not torch.cuda.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-such-flag"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
    assert {"mi_common.information", "mi_estimator.benchmark"} < set(modules)


def test_no_source_names_a_machines_folder_or_a_package_registry():
    # Written in pieces, so that this file does not find itself.
    folders = "|".join(["/" + name for name in ("tmp", "work", "root", "home", "Users", "mnt")])
    hosts = r"registry\." + r"npmjs|files\.python" + r"hosted|proxy\." + r"golang|deb\.deb" + "ian"
    machine = re.compile(rf"(?<![\w.}}~-])(?:{folders})/|{hosts}|artif" + "actory")
    assert machine.search('path = "' + "/" + 'tmp/x"') and machine.search("/" + "root/.cache")
    assert not machine.search("runs" + "/" + "work/x") and not machine.search("tmp_path / 'x'")
    found = {
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if machine.search(line)
    }
    assert found == set()
