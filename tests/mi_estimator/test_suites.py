"""The named tasks: each can be drawn, is within its bounds, and means the same everywhere."""

from pathlib import Path

import pytest
import torch

from mi_estimator.estimators.registry import Settings
from mi_estimator.tasks.suites import SUITES

TASKS = {name: task for suite in SUITES.values() for name, task in suite.items()}


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("mnist")])
def test_every_task_can_be_drawn_and_scored(name):
    task = TASKS[name]
    distribution, classes = task.distribution, task.distribution.num_classes
    assert task.n_train >= 10 * classes and task.n_test >= 10 * classes
    value, error = distribution.mutual_information()
    largest_error = 3e-4 if name in SUITES["tables"] else 1e-11
    assert 0 <= value <= distribution.label_entropy and 0 <= error < largest_error
    assert (value == 0) == name.startswith("independent")
    generator = torch.Generator().manual_seed(0)
    x, y = distribution.sample(2 * classes, generator, exact_counts=True)
    assert (x.dtype, y.dtype, len(x)) == (torch.float32, torch.int64, len(y))
    assert x.shape[1:] == ((1, 28, 28) if name.startswith("blob") else (distribution.dim,))
    ratio = distribution.log_ratio(x)
    assert (ratio.shape, ratio.dtype) == ((2 * classes, classes), torch.float64)


def test_names_and_sizes():
    assert list(SUITES) == ["paper", "hard", "small-sample", "many-classes", "images", "tables"]
    assert len(TASKS) == sum(map(len, SUITES.values()))  # a name means one task
    paper = SUITES["paper"].values()
    assert [task.n_train for task in paper] == [50_000] * 4 + [75_000] * 4
    assert [task.distribution.dim for task in paper] == [1, 2, 5, 10] * 2
    assert all(task.n_test == 1_000_000 for task in paper)
    assert {task.n_train for task in SUITES["hard"].values()} == {10_000}
    sizes = {(task.n_train, task.n_test) for task in SUITES["tables"].values()}
    assert sizes == {(2_000, 50_000)} and len(SUITES["tables"]) == 14
    assert max(task.n_train for task in SUITES["small-sample"].values()) == 1_000
    for name in ("rare0.005", "rare0.02-n1000", "fraud0.002"):
        rare = TASKS[name].distribution.log_prior.exp().min().item()
        assert f"{rare:g}" in name


def test_settings():
    """The paper's networks train as its own did; all others choose an epoch and are several."""
    default = Settings(50, 100, weight_decay=1e-4, members=4)
    paper = Settings(20, 1000, 5e-3, 1e-4, val_fraction=0, members=1)
    for name, task in TASKS.items():
        assert task.settings == (paper if name in SUITES["paper"] else default)


def test_only_tasks_that_read_data_take_a_data_folder():
    moved = TASKS["mnist-flip0.2"].reading_from(Path("elsewhere"))
    assert moved.distribution.data_dir == Path("elsewhere")
    assert (moved.distribution.flip, moved.n_train) == (0.2, 10_000)
    assert TASKS["xor-flip0.1"].reading_from(Path("elsewhere")) is TASKS["xor-flip0.1"]
