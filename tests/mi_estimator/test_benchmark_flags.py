"""The benchmark's flags: defaults, recipes, wrong ones, and folders that cannot be used."""

import dataclasses

import pytest
import torch

from mi_estimator import benchmark
from mi_estimator import cell as cell_module
from mi_estimator.estimators.registry import ESTIMATORS
from mi_estimator.tasks.suites import SUITES

TASKS = list(SUITES["paper"])
SMALL = ["--n-train", "60", "--n-test", "300", "--epochs", "2", "--batch-size", "20"]


def test_a_flag_replaces_a_setting_of_the_task(tmp_path, monkeypatch):
    cells = []

    def record(cell, device) -> list[dict]:
        cells.append(cell)
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_module, "run_cell", record)
    flags = ["--n-train", "60", "--num-workers", "0", "--device", "cpu", "--output-dir"]
    given = ["--members", "2", "--val-fraction", "0", "--hidden", "5", "6", "--k", "7"]
    for number, words in enumerate(([], given)):
        with pytest.raises(SystemExit):
            benchmark.main([*flags, str(tmp_path / str(number)), *words])
    paper = SUITES["paper"][TASKS[0]].settings
    changes = {"members": 2, "val_fraction": 0, "hidden": (5, 6), "k": 7}
    assert [cell.settings for cell in cells] == [paper, dataclasses.replace(paper, **changes)]


def test_only_the_tasks_asked_for_run_in_their_order(tmp_path, monkeypatch):
    names = []

    def record(cell, device) -> list[dict]:
        names.append(cell.task)
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_module, "run_cell", record)
    words = ["--tasks", TASKS[3], TASKS[1], "--num-workers", "0", "--device", "cpu"]
    with pytest.raises(SystemExit):
        benchmark.main([*words, "--output-dir", str(tmp_path / "out")])
    assert names == [TASKS[3]]


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--n-train", "9"], ["--n-train 9"]),
        (["--n-test", "1"], ["--n-test 1"]),
        (["--estimators", "ours"], ["--estimators", "'ours'", "oracle"]),
        (["--suite", "mine"], ["--suite", "'mine'", "paper"]),
        (["--tasks", "spiral"], ["--tasks spiral", "gaussian-d1-balanced"]),
        (["--members", "0"], ["--members", "'0'"]),
        (["--hidden", "0"], ["--hidden", "'0'"]),
        (["--k", "0"], ["--k", "'0'"]),
        (["--retry-failed"], ["--retry-failed: only with --resume"]),
        (["--n-train", str(2**31 - 1)], ["GB of memory", "use fewer"]),
        (["--n-test", str(2**31 - 1)], ["GB of memory", "use fewer"]),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(tmp_path, user_error, flags, parts):
    small = [*SMALL, "--num-workers", 0, "--estimators", "softmax"]
    line = user_error(benchmark.main, [*small, "--output-dir", tmp_path / "run", *flags])
    assert all(part in line for part in parts)
    assert not (tmp_path / "run").exists()


def test_existing_and_changed_folders_are_refused_in_one_line(tmp_path, user_error):
    flags = [*SMALL, "--num-workers", 0, "--estimators", "oracle", "--device", "cpu"]
    folder = ["--output-dir", tmp_path]
    benchmark.main([str(word) for word in flags + folder])
    before = (tmp_path / "results.csv").read_text()
    assert "use --resume, --overwrite" in user_error(benchmark.main, flags + folder)
    line = user_error(benchmark.main, [*flags, *folder, "--resume", "--lr", "0.5"])
    assert "--lr None -> 0.5" in line
    assert (tmp_path / "results.csv").read_text() == before
    assert torch.get_num_threads() == 1  # the script leaves the caller's settings alone


def test_the_list_names_suites_tasks_and_estimators(capsys):
    benchmark.main(["--list"])
    out = capsys.readouterr().out
    assert all(name in out for name in [*SUITES, *ESTIMATORS, *SUITES["hard"]])
