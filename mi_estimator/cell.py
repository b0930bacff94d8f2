"""One cell of the benchmark: an estimator on a task, with one seed and one number of samples."""

import dataclasses
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from mi_common.errors import UserError, require_memory
from mi_common.information import select_label
from mi_common.runtime import Runtime
from mi_estimator.estimators.base import MIEstimate
from mi_estimator.estimators.registry import NEIGHBOUR_METHODS, Settings, build_estimator
from mi_estimator.tasks.suites import SUITES, Task
from mi_estimator.time_limit import within

KEY = ["task", "estimator", "seed", "n_train"]
SCORES = ["n_test", "estimate", "lower", "upper", "truth", "truth_error", "seconds", "status"]
COLUMNS = [*KEY, *SCORES]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of results.csv to compute, with everything that determines it."""

    suite: str
    task: str
    estimator: str
    seed: int
    n_train: int
    n_test: int
    data_dir: Path
    timeout: float
    settings: Settings


def run_cell(cell: Cell, runtime: Runtime) -> list[dict]:
    """Samples, trains and estimates; the status of a failed row says why."""
    task = SUITES[cell.suite][cell.task].reading_from(cell.data_dir)
    truth, truth_error = task.distribution.mutual_information()
    row = {column: getattr(cell, column, np.nan) for column in COLUMNS}
    if cell.estimator in NEIGHBOUR_METHODS:
        row["n_test"] = 0
    row |= {"truth": truth, "truth_error": truth_error, "status": "ok"}
    started = time.perf_counter()
    try:
        estimate = within(cell.timeout, _estimate, cell, task, runtime)
        if not np.isfinite(estimate.value):
            raise UserError(f"the estimate is {estimate.value}")
    except UserError as error:
        return [row | {"status": f"failed: {error}", "seconds": time.perf_counter() - started}]
    row |= {"estimate": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
    return [row | {"seconds": time.perf_counter() - started}]


def _estimate(cell: Cell, task: Task, runtime: Runtime) -> MIEstimate:
    # The samples depend on task and seed alone, so that estimators are compared on the same ones.
    data_seed = zlib.crc32(f"{cell.task} {cell.seed}".encode())
    generator = torch.Generator().manual_seed(data_seed)
    distribution = task.distribution
    x_train, y_train = distribution.sample(cell.n_train, generator, exact_counts=True)
    x_test, y_test = distribution.sample(cell.n_test, generator)
    if cell.estimator == "oracle":
        return MIEstimate.from_pointwise(select_label(distribution.log_ratio(x_test), y_test))
    estimator = build_estimator(cell.estimator, runtime, cell.seed, cell.settings)
    estimator.fit(x_train, y_train, num_classes=distribution.num_classes)
    if cell.estimator in NEIGHBOUR_METHODS:
        return estimator.estimate(x_train, y_train)
    return estimator.estimate(x_test, y_test)


def fingerprints(tasks: dict[str, Task]) -> dict[str, str]:
    """Fingerprints of the data sets that tasks read, by task."""
    distributions = {name: task.distribution for name, task in tasks.items()}
    return {name: d.fingerprint() for name, d in distributions.items() if hasattr(d, "data_dir")}


def check_memory(name: str, task: Task, n_train: int, n_test: int) -> None:
    """UserError if twice the samples of a task do not fit into memory."""
    one, _ = task.distribution.sample(1, torch.Generator().manual_seed(0))
    needed = 2 * (n_train + n_test) * one.numel() * one.element_size()
    require_memory(needed, f"{name}: {n_train} training and {n_test} test samples", "use fewer")
