"""Which folder may import which, imports without effect, and no trace of anyone's machine."""

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
    "infocam/data": {"infocam.scoring", "infocam.maps", "infocam.figures", "infocam.localise"},
    "infocam/scoring": {"infocam.maps", "infocam.figures", "infocam.localise"},
    "infocam/maps": {"infocam.figures", "infocam.localise"},
    "infocam/figures": {"infocam.maps", "infocam.localise", "infocam.models"},
}
MODULES = [path for package in PACKAGES for path in sorted((REPO / package).rglob("*.py"))]
SOURCES = [
    path
    for folder in (*PACKAGES, "tests", ".ci")
    for path in sorted((REPO / folder).rglob("*"))
    if path.is_file() and path.suffix in ("", ".py", ".sh", ".toml", ".yml", ".yaml")
] + sorted(
    path
    for end in ("*.toml", "*.txt", "*.md", "*/*.md", "resources/*.json")
    for path in REPO.glob(end)
)


def name_of(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def imported(source: str, package: str) -> set[str]:
    """Dotted names of all that a module of `package` imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            names |= {ast.literal_eval(argument) for argument in node.args[:1]}
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
    assert imported(source, "a.b") == {
        "infocam.maps.cam",
        "os",
        "pc_softmax.train",
        "a.mi_estimator",
        "a.scripts.report.main",
        "tests.x",
        "a.b.records",
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_import_goes_up_or_to_a_neighbour(package):
    """The common folder imports no experiment, experiments never each other, data no scores."""
    paths = sorted((REPO / package).rglob("*.py"))
    assert len(paths) > 1
    forbidden = re.compile(rf"({'|'.join(sorted(FORBIDDEN[package]))})(\.|$)")
    for path in paths:
        folder = name_of(path.parent).replace("/", ".")
        names = imported(path.read_text(encoding="utf-8"), folder)
        wrong = sorted(name for name in names if forbidden.match(name))
        assert not wrong, f"{name_of(path)} imports {', '.join(wrong)}"


def test_importing_any_module_prints_nothing_writes_nothing_and_reads_no_arguments(tmp_path):
    """All in one fresh process, started in an empty folder with arguments that no script has."""
    modules = [name_of(path).removesuffix(".py").replace("/", ".") for path in MODULES]
    modules = [name.removesuffix(".__init__") for name in modules]
    code = f"""
import importlib, random, sys, torch
import sklearn.preprocessing  # it imports rich if that is there, which draws a random number
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
        [sys.executable, "-c", code, "--no-such-flag"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
    assert {"mi_common.information", "mi_estimator.benchmark"} < set(modules)


def test_no_source_names_a_machines_folder_or_a_package_registry():
    # Each name is split, so that this file does not match.
    folders = "|".join(["/" + name for name in ("tmp", "work", "root", "home", "Users", "mnt")])
    hosts = r"registry\." + r"npmjs|files\.python" + r"hosted|proxy\." + r"golang|deb\.deb" + "ian"
    machine = re.compile(rf"(?<![\w.}}~-])(?:{folders})/|{hosts}|artif" + "actory")
    assert machine.search('path = "' + "/" + 'tmp/x"') and machine.search("/" + "root/.cache")
    assert not machine.search("runs" + "/" + "work/x") and not machine.search("tmp_path / 'x'")
    matches = {
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if machine.search(line)
    }
    assert matches == set()
