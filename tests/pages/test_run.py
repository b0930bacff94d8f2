"""The runner of the pages' commands, on commands of a shell alone."""

import os
import re
import signal
import subprocess

import pytest

from tests.pages import run
from tests.pages.rules import Rule


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """Runs the commands of blocks by some rules: outcome and note of each command."""
    monkeypatch.setattr(run, "START", 0.5)

    def outcomes_of(*blocks: list[str], rules: list[Rule] = ()):
        find = lambda text: next((rule for rule in rules if rule.text in text), Rule(""))  # noqa: E731
        monkeypatch.setattr(run, "rule_of", find)
        runner = run.Runner(tmp_path, tmp_path)
        steps = [
            run.Step("page.md", number, "bash", text)
            for number, block in enumerate(blocks)
            for text in block
        ]
        try:
            return [runner.run(step) for step in steps]
        finally:
            runner.end_background()

    return outcomes_of


def test_the_archive_is_asked_for_by_the_pages_that_unpack_it(tmp_path, monkeypatch, capsys):
    needing = [run.name_of(page) for page in run.PAGES if run.needs_archive(run.steps_of(page))]
    assert needing == ["data/README.md", "infocam/README.md", "pc_softmax/README.md"]
    monkeypatch.setenv("PCS_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    words = ["--work-dir", str(tmp_path / "work"), "--pages"]
    with pytest.raises(SystemExit) as stopped:
        run.main([*words, "data/README.md"])
    assert stopped.value.code == 2
    assert re.match(r"no .*tiny-imagenet-200\.zip; set PCS_SHARED_DATA", capsys.readouterr().err)
    monkeypatch.setattr(run.Runner, "run", lambda runner, step: ("ran", ""))
    monkeypatch.setattr(run, "make_files", lambda folder, data_dir: None)
    monkeypatch.setattr(run, "copy_working_tree", lambda folder: None)
    run.main([*words, "mi_common/README.md"])


def test_a_failure_is_told_with_the_last_line_and_the_next_command_runs(outcomes):
    assert outcomes(["echo one; echo two >&2; exit 3", "(echo three; exit 4) | cat", "true"]) == [
        ("failed", "status 3: two"),
        ("failed", "status 4: three"),
        ("ran", ""),
    ]


def test_a_failed_command_leaves_no_run_folder_behind(outcomes, tmp_path):
    make = "mkdir -p runs/{}/evaluation && test {} != bad"
    blocks = [make.format(name, name) for name in ("good", "bad")]
    assert [outcome for outcome, _ in outcomes(blocks)] == ["ran", "failed"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"good"}
    assert (tmp_path / "runs/good/evaluation").is_dir()


def test_rules_append_replace_and_skip(outcomes, tmp_path):
    rules = [
        Rule("skipped", skip="needs a network"),
        Rule("echo", flags="b > out", old="HOST", new="localhost"),
    ]
    assert outcomes(["echo HOST", "skipped"], rules=rules) == [
        ("ran changed", "echo localhost b > out"),
        ("skipped", "needs a network"),
    ]
    assert (tmp_path / "out").read_text() == "localhost b\n"


def test_exports_hold_in_their_block_alone(outcomes):
    shown = 'test "$COLOUR" = red'
    first, second = ["export COLOUR=red", shown], [shown]
    assert [outcome for outcome, _ in outcomes(first, second)] == ["ran", "ran", "failed"]


def test_background_processes_end_with_their_block(outcomes, tmp_path):
    rules = [Rule("sleep", background=True)]
    block = ["echo $$ > pid; sleep 60", "kill -0 $(cat pid)"]
    assert [outcome for outcome, _ in outcomes(block, ["true"], rules=rules)] == ["ran"] * 3
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)


@pytest.mark.parametrize(
    "failed, again, ran",
    [
        ("work", None, ["export A=1", "serve", "work"]),
        ("first", None, ["first"]),
        ("serve", None, ["export A=1", "serve"]),
        ("export A=1", None, ["export A=1"]),
        (None, "last", ["export A=1", "serve", "last"]),
        (None, None, []),
    ],
)
def test_a_second_call_runs_what_failed_and_what_its_block_prepares(
    failed, again, ran, monkeypatch
):
    monkeypatch.setattr(run, "rule_of", lambda text: Rule(text, background=text == "serve"))
    blocks = ["first"], ["export A=1", "before", "serve", "work", "last"]
    steps = [
        run.Step("page.md", number, "bash", text)
        for number, block in enumerate(blocks)
        for text in block
    ]
    outcomes = {step.key: "failed" if step.text == failed else "ran" for step in steps}
    assert [step.text for step in run.steps_to_run(steps, outcomes, again)] == ran


def test_a_failure_takes_the_run_folders_made_since_the_background_began(outcomes, tmp_path):
    rules = [Rule("sleep", background=True)]
    block = ["mkdir -p runs/finished", "mkdir -p runs/shared; sleep 60", "exit 1"]
    assert [outcome for outcome, _ in outcomes(block, rules=rules)] == ["ran", "ran", "failed"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"finished"}


def test_a_removed_file_is_removed_from_the_copy_and_a_made_one_stays(tmp_path, monkeypatch):
    root, copy = tmp_path / "root", tmp_path / "work/copy"
    monkeypatch.setattr(run, "ROOT", root)
    root.mkdir()
    subprocess.run(["git", "init", "-q", root], check=True)
    for name in ("gone.py", "stays.py"):
        (root / name).touch()
    run.copy_working_tree(copy)
    (copy / "made.csv").touch()
    (root / "gone.py").unlink()
    run.copy_working_tree(copy)
    assert {path.name for path in copy.iterdir()} == {".venv", "made.csv", "stays.py"}


def test_one_in_the_background_that_ends_at_once_failed(outcomes):
    rules = [Rule("refused", background=True)]
    assert outcomes(["echo refused; exit 1"], rules=rules) == [("failed", "refused")]


def test_a_command_that_takes_too_long_is_ended(outcomes, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "LIMIT", 0.5)
    assert outcomes(["echo $$ > pid; sleep 60"]) == [("failed", "more than 0.5 s")]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
