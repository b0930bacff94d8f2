"""Classifier estimates of mutual information beside exact values, over tasks, seeds and objectives.

    python -m mi_estimator.benchmark --suite paper --seeds 0 1 2

writes `results.csv` (a row a task, estimator and seed), `table.md`, `table.tex` and
`estimates.png`. Each estimate is the mean over fresh test samples that played no part in training;
nothing is selected on them.
"""

import dataclasses
import time
import zlib

import pandas as pd
import torch
from tqdm import tqdm

from common import cli, runtime
from common.errors import UserError
from common.information import select_label
from common.records import ResultsFile, prepare_output
from common.tables import formatted, summarise, to_markdown, write_tables
from mi_estimator.distributions import SUITES, GaussianClasses
from mi_estimator.estimators import OBJECTIVES, ClassifierMI, MIEstimate
from mi_estimator.plots import plot_estimates

ESTIMATORS = (*OBJECTIVES, "oracle")
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
KEY = ["task", "estimator", "seed"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row to compute: a task, an estimator and a seed, with all that sets the result."""

    suite: str
    task: str
    estimator: str
    seed: int
    n_train: int
    n_test: int
    training: dict


def run_cell(cell: Cell, runtime: runtime.Runtime) -> dict:
    """Samples, trains and estimates; a failure is a row whose status says why."""
    task = SUITES[cell.suite][cell.task]
    truth, truth_error = task.mutual_information()
    row = {column: getattr(cell, column, None) for column in COLUMNS}
    row |= {"truth": truth, "truth_error": truth_error, "status": "ok"}
    started = time.perf_counter()
    try:
        estimate = _estimate(cell, task, runtime)
    except UserError as error:
        return row | {"status": f"failed: {error}", "seconds": time.perf_counter() - started}
    return row | {
        "estimate": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "seconds": time.perf_counter() - started,
    }


def _estimate(cell: Cell, task: GaussianClasses, runtime: runtime.Runtime) -> MIEstimate:
    # The data depend on task and seed alone, so that estimators are compared on the same samples.
    data_seed = zlib.crc32(f"{cell.task} {cell.seed}".encode())
    generator = torch.Generator().manual_seed(data_seed)
    x_train, y_train = task.sample(cell.n_train, generator, exact_counts=True)
    x_test, y_test = task.sample(cell.n_test, generator)
    if cell.estimator == "oracle":
        ratio = task.pointwise_mutual_information(x_test)
        return MIEstimate.from_pointwise(select_label(ratio, y_test))
    estimator = ClassifierMI(cell.estimator, runtime=runtime, seed=cell.seed, **cell.training)
    estimator.fit(x_train, y_train, num_classes=task.num_classes)
    return estimator.estimate(x_test, y_test)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds beside the exact value and H(Y), in nats; failed rows are left out."""
    good = rows[rows["status"] == "ok"]
    good = good.assign(error=good["estimate"] - good["truth"])
    varying = ("seconds", "lower", "upper", "status")
    metrics = ["estimate", "error"]
    summary = summarise(good, ["task", "estimator", "truth"], metrics, varying=varying)
    shown = formatted(summary, metrics, digits=4)
    tasks = {name: task for suite in SUITES.values() for name, task in suite.items()}
    shown["truth"] = summary["truth"].map("{:.4f}".format)
    shown.insert(3, "H(Y)", [f"{tasks[name].label_entropy:.4f}" for name in shown["task"]])
    return shown


def get_parser() -> cli.Parser:
    parser = cli.Parser(
        "Estimate mutual information with classifiers on tasks whose exact value is known."
    )
    cli.add_common_arguments(parser, output_dir="runs/mi_estimator", seeds=[0], data=False)
    parser.add_argument("--suite", choices=list(SUITES), default="paper", help="tasks to run")
    parser.add_argument(
        "--estimators",
        nargs="+",
        choices=ESTIMATORS,
        default=list(OBJECTIVES),
        help="estimators to run; oracle averages the exact log ratio on the test samples",
    )
    parser.add_argument(
        "--n-train",
        type=cli.positive_int,
        help="training samples; the paper's 50,000 (balanced) or 75,000 if not given",
    )
    parser.add_argument(
        "--n-test", type=cli.positive_int, default=1_000_000, help="fresh test samples"
    )
    cli.add_training_arguments(parser, epochs=20, batch_size=1000, lr=5e-3, weight_decay=1e-4)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.setup(
        args.device, args.precision, compile=args.compile, deterministic=args.deterministic
    )
    tasks = SUITES[args.suite]
    for name, task in tasks.items():
        if args.n_train and args.n_train < 2 * task.num_classes:
            raise UserError(f"--n-train {args.n_train}: {name} has {task.num_classes} classes")
    if args.n_test < 2:
        raise UserError("--n-test 1: an interval needs at least two samples")
    seeds = list(dict.fromkeys(args.seeds))
    prepare_output(
        args.output_dir,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("seeds", "estimators"),
    )
    print(f"mi_estimator: {device.describe()}, seeds {seeds}, writing {args.output_dir}")

    results = ResultsFile(args.output_dir / "results.csv", COLUMNS, KEY)
    training = {
        name: getattr(args, name) for name in ("epochs", "batch_size", "lr", "weight_decay")
    }
    estimators = dict.fromkeys(args.estimators)
    keys = [(name, e, seed) for name in tasks for e in estimators for seed in seeds]
    cells = [
        Cell(
            args.suite, *key, args.n_train or sum(tasks[key[0]].class_counts), args.n_test, training
        )
        for key in keys
        if key not in results
    ]
    jobs = [(cell, device) for cell in cells]
    rows = runtime.run_jobs(run_cell, jobs, runtime=device, num_workers=args.num_workers)
    for row in tqdm(rows, total=len(jobs), disable=None):
        results.add([row])

    rows = results.select(keys)
    for _, row in rows[rows["status"] != "ok"].iterrows():
        print(f"{row['task']} {row['estimator']} seed {row['seed']}: {row['status']}")
    if not (rows["status"] == "ok").any():
        raise UserError(f"every estimate failed; {args.output_dir}/results.csv says why")
    shown = table(rows)
    write_tables(shown, args.output_dir / "table")
    plot_estimates(rows[rows["status"] == "ok"], args.output_dir / "estimates.png")
    print(to_markdown(shown))
    print(f"wrote {args.output_dir}/results.csv, table.md, table.tex and estimates.png")


if __name__ == "__main__":
    main()
