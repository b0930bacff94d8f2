"""scripts/gpu_check.sh: its steps, with a Python that only notes its commands."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_commands import ROOT, commands, parse

PYTHON = """#!/bin/sh
echo "$@" >> commands
case "$2 $FAIL" in
  pytest*tests*) exit 1 ;;
  infocam.train*seed-1*) case "$*" in *--seed\\ 1\\ *) exit 2 ;; esac ;;
  infocam.evaluate*) mkdir -p "$3/evaluation" && touch "$3/evaluation/results.csv" ;;
esac
"""


@pytest.fixture
def check(tmp_path: Path):
    """Runs the script in a folder with nothing but the scripts; .venv is not there."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(*words: str, **variables: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
        (tmp_path / "commands").write_text("")
        command = ["bash", "scripts/gpu_check.sh", *words]
        variables = {"PATH": "/usr/bin:/bin", "PYTHON": "./python", **variables}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        return done, commands((tmp_path / "commands").read_text())

    return run


def test_every_command_parses_and_a_second_call_repeats_none(check):
    done, shown = check("speed", "tune")
    assert (done.returncode, done.stderr) == (0, "")
    modules = [words[0] for words in shown]
    assert modules.count("infocam.train") == modules.count("infocam.evaluate") == 6
    assert [words for words in shown if words[0] == "scripts.speed"] == shown[:1]
    for words in shown:
        parse(words)
    trained = [" ".join(words) for words in shown if words[0] == "infocam.train"]
    assert sum("--adl blocks.4.2 blocks.5.3 blocks.6.0" in text for text in trained) == 3
    assert sum("--seed 2 " in text for text in trained) == 2
    assert modules[-1] == "scripts.collect"
    assert [words[0] for words in check("speed", "tune")[1]] == ["scripts.collect"]


def test_a_failed_step_is_named_and_stops_no_other(check):
    done, shown = check(FAIL="tests seed-1", RUNS="out")
    assert done.returncode == 1
    names = "efficientnet_lite0-seed-1-adl-no efficientnet_lite0-seed-1-adl-yes"
    assert done.stderr.splitlines()[-1] == f"failed: tests {names}"
    modules = [words[0] for words in shown]
    assert modules[0] == "pytest" and modules.count("infocam.evaluate") == 4
    again = [words[0] for words in check(RUNS="out")[1]]
    assert sorted(again[1:-1]) == ["infocam.evaluate"] * 2 + ["infocam.train"] * 2


def test_variables_reach_the_commands(check):
    variables = {"NETWORK": "resnet50", "WEIGHTS": "w.pt", "EPOCHS": "2", "SEEDS": "5"}
    shown = check("tune", **variables, WORKERS="7", DEVICE="cuda:1", DATA="d", RUNS="r")[1]
    shown = [words for words in shown if words[0] == "infocam.train"]
    assert len(shown) == 2
    expected = "--network resnet50 --weights w.pt --no-freeze-backbone --epochs 2 --seed 5"
    assert f"{expected} --device cuda:1 --data-dir d --num-workers 7" in " ".join(shown[0])
    assert shown[1][-4:] == ["--adl", "layer3.0", "layer4.0", "layer4.2"]
