"""Estimates of mutual information beside exact values, over tasks, estimators and seeds.

    python -m mi_estimator.benchmark --suite paper --seeds 0 1 2
    python -m mi_estimator.benchmark --suite hard --estimators pc-softmax ross lda --seeds 0 1 2

writes `results.csv` (a row a task, estimator and seed), `table` (estimates), `errors` (bias,
spread, root mean square error, seconds) and `rmse` (the same on one page) as `.md` and `.tex`, and
figures. Each estimate is made on fresh test samples that played no part in training; nothing is
selected on them. Nearest neighbours have no training: they get the training samples as they are.
"""

import dataclasses
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.information import select_label
from mi_common.memory import require_memory
from mi_common.records import prepare_output
from mi_common.results import ResultsFile
from mi_common.tables import to_markdown, write_tables
from mi_common.workers import run_jobs
from mi_estimator.estimators.classifier import MIEstimate
from mi_estimator.estimators.neighbours import NEIGHBOUR_METHODS
from mi_estimator.estimators.registry import ESTIMATORS, build_estimator
from mi_estimator.plots import plot_error_against, plot_estimates, plot_estimates_against_truth
from mi_estimator.tables import error_table, estimate_table, rmse_table
from mi_estimator.tasks.suites import SUITES, Task
from mi_estimator.time_limit import within

COLUMNS = [
    "task",
    "estimator",
    "seed",
    "n_train",
    "n_test",
    "estimate",
    "lower",
    "upper",
    "truth",
    "truth_error",
    "seconds",
    "status",
]
KEY = ["task", "estimator", "seed", "n_train"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row to compute: task, estimator, seed and size, with all that sets the result."""

    suite: str
    task: str
    estimator: str
    seed: int
    n_train: int
    n_test: int
    data_dir: Path
    timeout: float
    training: dict


def run_cell(cell: Cell, runtime: runtime.Runtime) -> dict:
    """Samples, trains and estimates; a failure is a row whose status says why."""
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
        return row | {"status": f"failed: {error}", "seconds": time.perf_counter() - started}
    return row | {
        "estimate": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "seconds": time.perf_counter() - started,
    }


def _estimate(cell: Cell, task: Task, runtime: runtime.Runtime) -> MIEstimate:
    # The data depend on task and seed alone, so that estimators are compared on the same samples.
    data_seed = zlib.crc32(f"{cell.task} {cell.seed}".encode())
    generator = torch.Generator().manual_seed(data_seed)
    distribution = task.distribution
    x_train, y_train = distribution.sample(cell.n_train, generator, exact_counts=True)
    x_test, y_test = distribution.sample(cell.n_test, generator)
    if cell.estimator == "oracle":
        if not distribution.has_oracle:
            raise UserError("the exact log ratio of this task is not known")
        ratio = distribution.pointwise_mutual_information(x_test)
        return MIEstimate.from_pointwise(select_label(ratio, y_test))
    estimator = build_estimator(cell.estimator, runtime, cell.seed, cell.training)
    estimator.fit(x_train, y_train, num_classes=distribution.num_classes)
    if cell.estimator in NEIGHBOUR_METHODS:
        return estimator.estimate(x_train, y_train)
    return estimator.estimate(x_test, y_test)


def get_parser() -> cli.Parser:
    parser = cli.Parser("Estimate mutual information on tasks whose exact value is known.")
    cli.add_common_arguments(parser, output_dir=None, seeds=[0])
    cli.add_cluster_argument(parser)
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --resume: compute again what failed or took too long",
    )
    parser.add_argument("--suite", choices=list(SUITES), default="paper", help="tasks to run")
    parser.add_argument("--list", action="store_true", help="show suites and estimators, and end")
    parser.add_argument(
        "--estimators",
        nargs="+",
        choices=ESTIMATORS,
        default=["softmax", "pc-softmax"],
        help="estimators to run; oracle averages the exact log ratio on the test samples",
    )
    parser.add_argument(
        "--n-train", type=cli.positive_int, nargs="+", help="training samples; by task if not given"
    )
    parser.add_argument(
        "--n-test", type=cli.positive_int, help="fresh test samples; by task if not given"
    )
    parser.add_argument(
        "--timeout", type=cli.positive_float, default=600.0, help="seconds a cell may take"
    )
    parser.add_argument(
        "--members",
        type=cli.count_to(1000),
        help="networks whose logits are averaged (by task if not given)",
    )
    by_task = dict.fromkeys(("epochs", "batch_size", "lr"), "by task if not given")
    cli.add_training_arguments(parser, weight_decay=1e-4, by_dataset=by_task)
    parser.add_argument(
        "--held-back",
        type=cli.fraction,
        help="share of the training samples that chooses a classifier's epoch and calibrates it "
        "(by task if not given)",
    )
    return parser


def recipe(task: Task, args) -> dict:
    """How a network trains on a task: the task's recipe, unless a flag says otherwise."""
    names = ("epochs", "batch_size", "lr", "held_back", "members")
    given = {name: getattr(args, name) for name in names}
    own = {name: getattr(task, name) if value is None else value for name, value in given.items()}
    return own | {"weight_decay": args.weight_decay}


def fingerprints(tasks: dict[str, Task]) -> dict[str, str]:
    """Of the data sets that tasks read, by task."""
    read = {name: task.distribution for name, task in tasks.items()}
    return {name: each.fingerprint() for name, each in read.items() if hasattr(each, "data_dir")}


def check_memory(name: str, task: Task, n_train: int, n_test: int) -> None:
    """UserError if twice the samples of a task do not fit into memory."""
    one, _ = task.distribution.sample(1, torch.Generator().manual_seed(0))
    needed = 2 * (n_train + n_test) * one.numel() * one.element_size()
    require_memory(needed, f"{name}: {n_train} training and {n_test} test samples", "use fewer")


def list_suites() -> None:
    for suite, tasks in SUITES.items():
        print(f"{suite}: {', '.join(tasks)}")
    print(f"estimators: {', '.join(ESTIMATORS)}")


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if args.list:
        return list_suites()
    device = runtime.from_flags(args)
    tasks = {name: task.reading_from(args.data_dir) for name, task in SUITES[args.suite].items()}
    for name, task in tasks.items():
        least = 2 * task.distribution.num_classes
        if min(args.n_train or [task.n_train]) < least:
            raise UserError(f"--n-train {min(args.n_train)}: {name} needs at least {least}")
        check_memory(name, task, max(args.n_train or [task.n_train]), args.n_test or task.n_test)
    if args.retry_failed and not args.resume:
        raise UserError("--retry-failed: only with --resume")
    if args.n_test == 1:
        raise UserError("--n-test 1: an interval needs at least two samples")
    folder = args.output_dir or Path(f"runs/mi_estimator/{args.suite}")
    seeds = list(dict.fromkeys(args.seeds))
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("seeds", "estimators", "n_train", "timeout"),
        data=fingerprints(tasks),
    )
    print(f"mi_estimator: {device.describe()}, seeds {seeds}, writing {folder}", flush=True)

    results = ResultsFile(
        folder / "results.csv", COLUMNS, KEY, text=("task", "estimator", "status")
    )
    if args.retry_failed:
        results.drop(results.frame["status"] != "ok")
    keys = [
        (name, estimator, seed, n_train)
        for name, task in tasks.items()
        for estimator in dict.fromkeys(args.estimators)
        for n_train in dict.fromkeys(args.n_train or [task.n_train])
        for seed in seeds
    ]
    cells = [
        Cell(
            args.suite,
            *key,
            args.n_test or tasks[key[0]].n_test,
            args.data_dir,
            args.timeout,
            recipe(tasks[key[0]], args),
        )
        for key in keys
        if key not in results
    ]
    jobs = [(cell, device) for cell in cells]
    rows = run_jobs(
        run_cell, jobs, runtime=device, num_workers=args.num_workers, cluster=args.cluster
    )
    for row in tqdm(rows, total=len(jobs), disable=None):
        results.add([row])
    report(results.select(keys), tasks, folder)


def report(rows: pd.DataFrame, tasks: dict[str, Task], folder: Path) -> None:
    """Prints the failures and the estimates, and writes tables and figures.

    Raises:
        UserError: there is no estimate among the rows.
    """
    good = rows[rows["status"] == "ok"]
    for _, row in rows[rows["status"] != "ok"].iterrows():
        print(f"{row['task']} {row['estimator']} seed {row['seed']}: {row['status']}")
    if good.empty:
        raise UserError(f"every estimate failed; {folder}/results.csv says why")
    shown = estimate_table(rows, tasks)
    write_tables(shown, folder / "table")
    write_tables(error_table(rows), folder / "errors")
    errors = rmse_table(rows)
    write_tables(errors, folder / "rmse")
    plot_estimates(good, folder / "estimates.png")
    plot_estimates_against_truth(good, folder / "truth.png")
    for column in ("n_train", "seconds"):
        plot_error_against(good, column, folder / f"error_{column}.png")
    print(to_markdown(shown))
    print("root mean square error, nats:")
    print(to_markdown(errors))
    print(f"wrote {folder}/results.csv; table, errors, rmse (.md, .tex); estimates.png, ...")


if __name__ == "__main__":
    main()
