"""scripts/gpu_check.sh: its steps, with a Python that only notes its commands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_commands import ROOT, commands, parse

# Trainings refuse other flags than those of an earlier one in their folder.
PYTHON = f"""#!{sys.executable}
import json, os, shlex, sys
from pathlib import Path

if sys.argv[1] != "-m":
    sys.exit()
if sys.argv[2] == "scripts.finished_runs":
    os.environ["PYTHONPATH"] = "{ROOT}"
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
module, *words = sys.argv[2:]
failing = os.environ.get("FAIL", "").split()
with open("commands", "a") as file:
    file.write(shlex.join(["-m", module, *words]) + "\\n")
if module in failing or ("seed-1" in failing and "--seed 1 " in " ".join(words)):
    sys.exit(1)
if "--output-dir" in words:
    config = Path(words[words.index("--output-dir") + 1], "config.json")
    command = shlex.join(["python", "-m", module, *words])
    sessions = [{{"finished": True, "started": "2026"}}]
    text = json.dumps({{"command": command, "flags": {{}}, "sessions": sessions}})
    if module == "infocam.train" and config.exists() and config.read_text() != text:
        sys.exit("flags changed")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)
"""


@pytest.fixture
def check(tmp_path: Path):
    """Runs the script in a folder with nothing but the scripts; .venv is not there."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "a python").symlink_to("python")

    def run(*words: str, **variables: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
        (tmp_path / "commands").write_text("")
        command = ["bash", "scripts/gpu_check.sh", *words]
        variables = {"PATH": "/usr/bin:/bin", "PYTHON": "./python", **variables}
        options = {"cwd": tmp_path, "env": variables, "capture_output": True, "text": True}
        done = subprocess.run(command, timeout=120, **options)
        return done, commands((tmp_path / "commands").read_text())

    return run


def test_every_command_parses_and_a_second_call_repeats_none(check):
    variables = {"RUNS": "my runs/größer", "PYTHON": "./a python"}
    done, shown = check("speed", "tune", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    modules = [words[0] for words in shown]
    assert modules.count("infocam.train") == modules.count("infocam.evaluate") == 6
    assert modules[:2] == ["scripts.speed", "scripts.collect"]
    assert modules.count("scripts.speed") == 1
    for words in shown:
        parse(words)
    trained = [" ".join(words) for words in shown if words[0] == "infocam.train"]
    assert sum("--adl blocks.4.2 blocks.5.3 blocks.6.0" in text for text in trained) == 3
    assert sum("--seed 2 " in text for text in trained) == 2
    assert modules[-1] == "scripts.collect"
    again = [words[0] for words in check("speed", "tune", **variables)[1]]
    assert again == ["scripts.collect"] * 2


def evaluations(shown: list[list[str]]) -> list[str]:
    """The runs whose rows are collected last."""
    module, *words = shown[-1]
    assert module == "scripts.collect"
    names = [word.split("/")[2] for word in words if word.endswith("/evaluation")]
    return [name.removeprefix("efficientnet_lite0-") for name in names]


@pytest.mark.parametrize("changed", [{"EPOCHS": "3"}, {"WEIGHTS": "w.pt"}])
def test_a_finished_training_with_other_flags_is_a_failure(check, changed):
    check("tune", SEEDS="0")
    done, shown = check("tune", SEEDS="0", **changed)
    assert done.returncode == 1 and "flags changed" in done.stderr
    assert [words[0] for words in shown] == ["infocam.train"] * 2  # no row of them


@pytest.mark.parametrize("changed", [{"DEVICE": "cuda:1"}, {"DATA": "d"}])
def test_speed_is_measured_anew_on_another_device(check, changed):
    measured = ["scripts.speed", "scripts.collect"]
    assert [words[0] for words in check("speed")[1]] == measured
    assert [words[0] for words in check("speed")[1]] == measured[1:]
    assert [words[0] for words in check("speed", **changed)[1]] == measured


def test_rows_are_those_of_the_seeds_that_are_given(check):
    expected = ["seed-1-adl-no", "seed-1-adl-yes", "seed-2-adl-no", "seed-2-adl-yes"]
    for variables in ({}, {"RUNS": "runs/mine"}):
        check("tune", SEEDS="0 1", **variables)
        shown = check("tune", SEEDS="1 2", **variables)[1]
        assert evaluations(shown) == expected
        folder = variables.get("RUNS", "runs/gpu_check-seeds-1-2")
        table = f"{folder}/tables/infocam_fine_tuned.csv"
        assert shown[-1][shown[-1].index("--output") + 1] == table
    done, _ = check(DRY_RUN="1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_failed_step_is_named_and_stops_no_other(check):
    done, shown = check(FAIL="pytest seed-1", RUNS="runs/out")
    assert done.returncode == 1
    names = "efficientnet_lite0-seed-1-adl-no efficientnet_lite0-seed-1-adl-yes"
    assert done.stderr.splitlines()[-1] == f"failed: tests {names}"
    modules = [words[0] for words in shown]
    assert modules[0] == "pytest" and modules.count("infocam.evaluate") == 4
    assert evaluations(shown) == [
        *("seed-0-adl-no", "seed-0-adl-yes", "seed-2-adl-no", "seed-2-adl-yes")
    ]
    again = [words[0] for words in check(RUNS="runs/out")[1]]
    assert sorted(again[2:-1]) == ["infocam.evaluate"] * 2 + ["infocam.train"] * 2


def test_variables_reach_the_commands(check):
    variables = {"NETWORK": "resnet50", "WEIGHTS": "w.pt", "EPOCHS": "2", "SEEDS": "5"}
    shown = check("tune", **variables, JOBS="1", WORKERS="7", DEVICE="cuda:1", DATA="d", RUNS="r")[
        1
    ]
    shown = [words for words in shown if words[0] == "infocam.train"]
    assert len(shown) == 2
    expected = "--network resnet50 --weights w.pt --no-freeze-backbone --epochs 2 --seed 5"
    assert f"{expected} --device cuda:1 --data-dir d --num-workers 7" in " ".join(shown[0])
    assert shown[1][-4:] == ["--adl", "layer3.0", "layer4.0", "layer4.2"]


@pytest.mark.parametrize(
    "variable",
    [
        *({"JOBS": value} for value in ("0", "-1", "x", "1.5", "99999")),
        *({"EPOCHS": "0"}, {"WORKERS": "many"}, {"SEEDS": "0 0"}, {"RUNS": "python/below"}),
    ],
)
def test_a_wrong_variable_is_refused(check, variable):
    ((name, value),) = variable.items()
    done, shown = check("tune", **variable)
    assert (done.returncode, done.stdout, shown) == (2, "", [])
    assert f"{name}='{value}'" in done.stderr and done.stderr.count("\n") == 1
