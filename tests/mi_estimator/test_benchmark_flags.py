"""The benchmark's flags: defaults, recipes, wrong ones, and folders that cannot be used."""

import pytest
import torch

from mi_estimator import benchmark
from mi_estimator.estimators.registry import ESTIMATORS
from mi_estimator.tasks.suites import SUITES

TASKS = list(SUITES["paper"])
SMALL = ["--n-train", "60", "--n-test", "300", "--epochs", "2", "--batch-size", "20"]


def test_the_papers_sizes_are_the_default():
    args = benchmark.get_parser().parse_args([])
    assert args.n_train is None and args.suite == "paper"
    sizes = {sum(SUITES["paper"][name].distribution.class_counts) for name in TASKS}
    assert sizes == {50_000, 75_000}


def test_a_flag_takes_the_place_of_a_task_s_recipe():
    task = SUITES["hard"]["concentric-d5"]
    parse = benchmark.get_parser().parse_args
    own = {"epochs": 50, "batch_size": 100, "lr": 2e-3, "held_back": 0.15, "members": 4}
    assert benchmark.recipe(task, parse([])) == own | {"weight_decay": 1e-4}
    assert benchmark.recipe(SUITES["paper"][TASKS[0]], parse([]))["members"] == 1
    given = ["--members", "2", "--held-back", "0", "--weight-decay", "0.5"]
    changed = {"members": 2, "held_back": 0, "weight_decay": 0.5}
    assert benchmark.recipe(task, parse(given)) == own | changed


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--n-train", "9"], ["--n-train 9"]),
        (["--n-train", "0"], ["--n-train", "'0'"]),
        (["--n-test", "1"], ["--n-test 1"]),
        (["--estimators", "ours"], ["--estimators", "'ours'", "oracle"]),
        (["--suite", "mine"], ["--suite", "'mine'", "paper"]),
        (["--lr", "nan"], ["--lr", "'nan'"]),
        (["--members", "0"], ["--members", "'0'"]),
        (["--batch-size", "2.5"], ["--batch-size", "'2.5'"]),
        (["--seeds", "-1"], ["--seeds", "'-1'"]),
        (["--seeds", str(2**64)], [str(2**64)]),
        (["--device", "cuda:99"], ["--device cuda:99"]),
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


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path, user_error):
    (tmp_path / "file").touch()
    flags = [*SMALL, "--num-workers", 0, "--estimators", "oracle"]
    folder = tmp_path / "file/run"
    assert str(folder) in user_error(benchmark.main, [*flags, "--output-dir", folder])


def test_the_list_names_suites_tasks_and_estimators(capsys):
    benchmark.main(["--list"])
    out = capsys.readouterr().out
    assert all(name in out for name in [*SUITES, *ESTIMATORS, *SUITES["hard"]])
