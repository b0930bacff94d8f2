"""Every command that the pages, the docstrings and the shell scripts show is one that works."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.pages import PAGES, code_blocks, shell_commands

ROOT = Path(__file__).parents[1]
ENTRIES = sorted(
    f"{path.parent.name}.{path.stem}"
    for path in ROOT.glob("*/*.py")
    if re.search(r"^def get_parser\(", path.read_text(), re.MULTILINE)
)

SLOW = {"torch", "torchvision", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "cv2", "PIL"}


def commands(text: str) -> list[list[str]]:
    """The `python -m ...` commands of a text, as lists of words."""
    lines = shell_commands(text)
    started = r"\s*(?:torchrun (?:--\S+ \S+ )+|\.venv/bin/)?(?:python )?-m (.+)"
    matches = [re.match(started, line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in matches if match]


def parse(words: list[str]) -> None:
    module, *arguments = words
    assert module in ENTRIES, f"python -m {module}: no such script"
    try:
        importlib.import_module(module).get_parser().parse_args(arguments)
    except SystemExit as error:
        pytest.fail(f"python -m {shlex.join(words)}: exit status {error.code}")


def test_the_pages_show_every_script_and_each_command_parses():
    shown = commands("\n".join(code_blocks("bash")))
    for words in shown:
        parse(words)
    assert {words[0] for words in shown} == set(ENTRIES)


def test_the_pages_name_every_shell_script_and_each_is_there():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"bash\s(scripts/\S+\.sh)", text))
    scripts = {f"scripts/{path.name}" for path in ROOT.glob("scripts/*.sh")}
    assert named == scripts - {"scripts/setup.sh"}  # which the others call
    for name in named:
        assert subprocess.run(["bash", "-n", ROOT / name]).returncode == 0


@pytest.mark.parametrize("module", ENTRIES)
def test_commands_in_docstrings_parse(module):
    shown = commands(importlib.import_module(module).__doc__)
    assert shown, f"{module}: the docstring shows no command"
    for words in shown:
        parse(words)


@pytest.mark.parametrize("module", ENTRIES)
def test_help_needs_no_slow_import(module):
    """So that it takes less than two seconds; it shows the usage and the docstring's example."""
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m {module}")
    assert f"\nexample: python -m {module} " in done.stdout + " "
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported & SLOW == set() and "mi_common.cli" in imported


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with nothing but the scripts."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    return tmp_path


def run(copy: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", *words], cwd=copy, capture_output=True, text=True)


@pytest.mark.parametrize(
    "script, arguments, number",
    [
        ("quickstart.sh", [], 7),
        ("quickstart.sh", ["--smoke"], 7),
        ("reproduce_mi.sh", [], 6),
        ("reproduce_mi.sh", ["--smoke"], 6),
        ("reproduce_pc_softmax.sh", [], 4),
        ("reproduce_pc_softmax.sh", ["--fair"], 5),
        ("reproduce_pc_softmax.sh", ["--smoke"], 2),
        ("reproduce_infocam.sh", [], 18),
        ("reproduce_infocam.sh", ["--smoke"], 3),
    ],
)
def test_every_command_of_a_script_parses(copy, script, arguments, number):
    for name in ("tiny-imagenet-200", "CUB_200_2011", "MNIST", "FashionMNIST"):  # as if downloaded
        (copy / "data" / name).mkdir(parents=True)
    (copy / "scripts/setup.sh").write_text("exit 0\n")
    python = copy / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> commands\necho picture.jpg\n')
    python.chmod(0o755)
    assert run(copy, f"scripts/{script}", *arguments).returncode == 0
    shown = commands((copy / "commands").read_text())
    assert len(shown) == number
    for words in shown:
        parse(words)


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("scripts/[gqrs]*.sh")))
def test_an_unknown_argument_is_refused(copy, script):
    done = run(copy, f"scripts/{script}", "--fast")
    assert done.returncode == 2
    assert "'--fast'" in done.stderr and done.stderr.count("\n") == 1


def test_setup_installs_again_only_when_the_requirements_change(copy):
    requirements = copy / "requirements.txt"
    requirements.write_text("# nothing\n")
    assert run(copy, "scripts/setup.sh").returncode == 0
    python = copy / ".venv/bin/python"
    assert python.exists()

    python.rename(copy / "python")  # a second install would need it
    started = time.perf_counter()
    assert run(copy, "scripts/setup.sh").returncode == 0
    assert time.perf_counter() - started < 2
    assert not python.exists()

    (copy / "python").rename(python)
    requirements.write_text("--no-index\nthere-is-no-such-package-as-this\n")
    for _ in range(2):  # a failed install does not count
        assert run(copy, "scripts/setup.sh").returncode != 0


def test_setup_refuses_an_old_python(copy):
    old = copy / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=copy,
        env=os.environ | {"PYTHON": str(old)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "3.10" in done.stderr and not (copy / ".venv").exists()
