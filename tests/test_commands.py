"""Every command that the pages, the docstrings and the shell scripts show is one that works."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.pages import PAGES
from tests.pages.markdown import code_blocks, shell_commands

ROOT = Path(__file__).parents[1]
ENTRIES = sorted(
    f"{path.parent.name}.{path.stem}"
    for path in ROOT.glob("*/*.py")
    if re.search(r"^def get_parser\(", path.read_text(), re.MULTILINE)
)

SCRIPTS = sorted({path.name for path in ROOT.glob("scripts/[gqrs]*.sh")} - {"steps.sh"})
REPRODUCE = [name for name in SCRIPTS if name.startswith("reproduce_")]
REPRODUCE += ["reproduce_pc_softmax.sh --fair"]
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
    assert named == scripts - {"scripts/setup.sh", "scripts/steps.sh"}  # which the others call
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


@pytest.fixture
def recording(copy: Path) -> Path:
    """A folder with all data, whose `.venv` only writes down the commands."""
    for name in ("tiny-imagenet-200", "CUB_200_2011", "MNIST", "FashionMNIST"):
        (copy / "data" / name).mkdir(parents=True)
    (copy / "scripts/setup.sh").write_text("exit 0\n")
    python = copy / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    look = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"'
    record = "printf '%q ' \"$@\" >> commands; echo >> commands; echo picture.jpg"
    missing = '[ "$*" != "-c import ${MISSING:-}" ]'
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'if [ "$2" = scripts.finished_runs ]; then {look}; fi\n{record}\n{missing}\n'
    )
    python.chmod(0o755)
    return copy


@pytest.mark.parametrize("arguments", [[], ["--smoke"]])
def test_every_command_of_the_quick_start_parses(recording, arguments):
    assert run(recording, "scripts/quickstart.sh", *arguments).returncode == 0
    for words in commands((recording / "commands").read_text()):
        parse(words)


@pytest.mark.parametrize("command", [*REPRODUCE, *(f"{name} --smoke" for name in REPRODUCE[:3])])
def test_a_dry_run_prints_the_commands_that_the_script_runs_and_each_parses(
    recording, monkeypatch, command
):
    script, *arguments = command.split()
    monkeypatch.setenv("DRY_RUN", "1")
    dry = run(recording, f"scripts/{script}", *arguments)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert not (recording / "commands").exists() and not (recording / "runs").exists()
    monkeypatch.delenv("DRY_RUN")
    assert run(recording, f"scripts/{script}", *arguments).returncode == 0
    shown = commands(dry.stdout)
    assert shown == commands((recording / "commands").read_text())
    assert any(words[0] == "scripts.collect" for words in shown)
    for words in shown:
        parse(words)
    lines = dry.stdout.splitlines()
    assert lines[:2] == ["bash scripts/setup.sh", "source .venv/bin/activate"]
    others = {line[:2] for line in lines[2:] if not line.startswith("python -m ")}
    assert others <= {"", "# "}  # the whole can be pasted


def test_the_rows_of_the_pages_are_those_that_the_scripts_collect(recording):
    """By the command of resources/README.md that prints how to collect them there."""
    blocks = "".join(code_blocks("bash"))
    command = re.search(r"^DRY_RUN=1 bash scripts/reproduce_mi\.sh \| sed .*$", blocks, re.M)[0]
    texts = [run(recording, "-c", command.replace("reproduce_mi.sh", s)).stdout for s in REPRODUCE]
    shown = commands("".join([*texts, blocks]))
    outputs = [values_of(words, "output")[0] for words in shown if words[0] == "scripts.collect"]
    collected = sorted(path for paths in outputs for path in paths)
    rows = {f"resources/{path.name}" for path in ROOT.glob("resources/*.csv")}
    rows -= {"resources/trust.csv"}  # the attack writes it
    rows |= {"resources/pc_softmax_cub.csv"}  # the images of CUB-200-2011 were unavailable
    assert collected == sorted(rows)


@pytest.mark.parametrize(
    ("script", "arguments", "datasets"),
    [
        ("reproduce_infocam.sh", [], ["mnist", "tiny-imagenet"]),
        ("reproduce_pc_softmax.sh", [], ["mnist", "tiny-imagenet", "cub"]),
        ("reproduce_pc_softmax.sh", ["--fair"], ["mnist", "tiny-imagenet", "fashion-mnist"]),
    ],
)
def test_a_dry_run_without_data_gets_them_and_collects_what_it_makes(
    copy, monkeypatch, script, arguments, datasets
):
    (copy / "data/MNIST").mkdir(parents=True)
    monkeypatch.setenv("DRY_RUN", "1")
    made, downloaded = set(), {"scattered-digits"}
    for module, *words in commands(run(copy, f"scripts/{script}", *arguments).stdout):
        if module == "scripts.download_data":
            downloaded |= set(words)
        elif module == "scripts.collect":
            assert {word for word in words if word.startswith("runs/")} - {words[-2]} <= made
        else:
            made.add(words[words.index("--output-dir") + 1])
        if "--dataset" in words:
            assert words[words.index("--dataset") + 1] in downloaded
    assert downloaded == {*datasets, "scattered-digits"}


def test_rows_of_an_absent_data_set_are_not_collected(recording):
    shutil.rmtree(recording / "data/tiny-imagenet-200")
    done = run(recording, "scripts/reproduce_pc_softmax.sh", "--fair")
    assert "left out: no data/tiny-imagenet-200" in done.stdout
    shown = commands((recording / "commands").read_text())
    folder = "runs/reproduce_pc_softmax/tuned"
    collected = [
        [w for w in words if w.startswith(folder)] for words in shown if "--table" in words
    ]
    assert collected == [[f"{folder}-mnist-paper", f"{folder}-fashion-mnist-paper"]]


def values_of(words: list[str], *flags: str) -> list[list[str]]:
    """What follows each of some flags in a command."""
    parts = [part.split() for part in " ".join(words).split(" --")]
    return [values for name, *values in parts if name in flags]


@pytest.mark.parametrize("script", ["mi", "pc_softmax", "infocam"])
def test_seeds_are_those_that_are_given_and_have_a_folder_of_their_own(
    recording, monkeypatch, script
):
    monkeypatch.setenv("DRY_RUN", "1")
    texts = []
    for seeds in ("7 8", " 7  8 ", "7 ", "7"):
        monkeypatch.setenv("SEEDS", seeds)
        texts.append(run(recording, f"scripts/reproduce_{script}.sh").stdout)
    assert texts[0] == texts[1] and texts[2] == texts[3]
    given = [seeds for words in commands(texts[0]) for seeds in values_of(words, "seed", "seeds")]
    assert given and all(seeds in (["7"], ["8"], ["7", "8"]) for seeds in given)
    for text, name in ((texts[0], "7-8"), (texts[3], "7")):
        folder = f"runs/reproduce_{script}-seeds-{name}/"
        assert all(path.startswith(folder) for path in re.findall(r"runs/\S+", text))


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name[0] in "gr"])
@pytest.mark.parametrize("seeds", ["0 0", "0,1", "0 a", "01", "-1", "-n"])
def test_wrong_seeds_are_refused(recording, monkeypatch, script, seeds):
    monkeypatch.setenv("SEEDS", seeds)
    done = run(recording, f"scripts/{script}")
    assert done.returncode == 2 and done.stdout == ""
    assert f"SEEDS='{seeds}'" in done.stderr and done.stderr.count("\n") == 1
    assert not (recording / "runs").exists()


@pytest.mark.parametrize(("missing", "name"), [("quapy", "without-quapy"), ("", "quapy")])
def test_rows_without_quapy_have_a_folder_of_their_own(recording, monkeypatch, missing, name):
    monkeypatch.setenv("MISSING", missing)
    assert run(recording, "scripts/reproduce_pc_softmax.sh", "--smoke").returncode == 0
    shown = commands((recording / "commands").read_text())
    folder = f"runs/reproduce_pc_softmax_smoke/{name}"
    made = [values_of(w, "output-dir") for w in shown if w[0] == "scripts.label_shift_quapy"]
    assert made == [[[folder]]]
    assert [words[1] for words in shown if "label_shift_quapy.csv" in words] == [folder]


def write_config(folder: Path, words: list[str], *, started: str, **flags):
    folder.mkdir(parents=True, exist_ok=True)
    sessions = [{"finished": False}, {"finished": True, "started": started}]
    config = {"command": shlex.join(words), "flags": flags, "sessions": sessions}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("function", ["run_into runs/ü", "run"])
@pytest.mark.parametrize(
    ("more", "trained", "skipped"),
    [([], "2026-01", True), (["--seed", "1"], "2026-01", False), ([], "2026-03", False)],
)
def test_a_finished_output_is_skipped_unless_command_or_inputs_have_changed(
    recording, function, more, trained, skipped
):
    words = ["x.run", "runs/t", "--names", "AdamW, 7 x 7", "größer", "--output-dir", "runs/ü"]
    write_config(recording / "runs/t", ["python", "-m", "x.train"], started=trained)
    command = ["python", "-m", *words]
    write_config(recording / "runs/ü", command, started="2026-02", runs=["runs/t"])
    given = words if function == "run" else words[:-2]
    call = f"{function} {shlex.join([*given, *more])}"
    done = run(recording, "-c", f"source scripts/steps.sh; {call}")
    assert ("runs/ü is finished" in done.stdout) == skipped
    assert (recording / "commands").exists() != skipped


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_argument_is_refused(copy, script):
    done = run(copy, f"scripts/{script}", "--fast")
    assert done.returncode == 2
    assert "'--fast'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", sorted({*SCRIPTS} - {"gpu_check.sh"}))
@pytest.mark.parametrize("words", [("--smoke", "--fair"), ("--smoke", "--smoke"), ("", "--smoke")])
def test_a_second_argument_is_refused(copy, script, words):
    done = run(copy, f"scripts/{script}", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert f"'{' '.join(words)}'" in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture
def installing(copy, monkeypatch) -> Path:
    """A folder whose PYTHON writes down what it installs; pip fails where FAIL is set."""
    python = copy / "python"
    python.write_text(
        """#!/usr/bin/env bash
        case "$1 $2" in
          "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
          "-m pip") echo "${*:3}" >> installed; [ -z "${FAIL:-}" ] ;;
        esac
        """
    )
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(python))
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-cluster.txt"):
        (copy / name).write_text(name)
    return copy


def test_setup_installs_again_only_when_the_requirements_change(installing, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    for _ in range(2):  # a failed install does not count
        assert run(installing, "scripts/setup.sh").returncode != 0
    monkeypatch.delenv("FAIL")
    numbers = []
    for text, *words in ("A",), ("B",), ("A",), ("A",), ("A", "--dev"), ("A",), ("B", "--dev"):
        (installing / "requirements.txt").write_text(text)
        assert run(installing, "scripts/setup.sh", *words).returncode == 0
        numbers.append((installing / "installed").read_text().count("\n") - 2)
    assert numbers == [1, 2, 3, 3, 4, 4, 5]  # --dev installs requirements.txt as well


def test_setup_refuses_an_old_python_unless_all_is_installed(installing, monkeypatch):
    old = installing / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    good = os.environ["PYTHON"]
    for python, status in ((old, 2), (good, 0), (old, 0)):
        monkeypatch.setenv("PYTHON", str(python))
        done = run(installing, "scripts/setup.sh")
        assert done.returncode == status
        assert (installing / ".venv").exists() == ("3.10" not in done.stderr)
