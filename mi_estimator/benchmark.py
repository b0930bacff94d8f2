"""Estimates of mutual information next to exact values, over tasks, estimators and seeds.

    python -m mi_estimator.benchmark --suite hard --estimators pc-softmax ross lda --seeds 0 1 2

writes `results.csv` (one row per task, estimator, seed and size); as `.md` and `.tex` the tables
`table` (estimates), `errors` (bias, spread, root mean square error, seconds) and `rmse` (the same
on one page, also as a heat map); and figures. Each estimate uses new test samples that had no part
in training; nothing is selected on them. Nearest neighbours need no training: they use the training
samples.
"""

import dataclasses
import itertools
from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from mi_estimator.estimators.registry import ESTIMATORS, Settings
from mi_estimator.names import SUITES, add_estimator_arguments


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir=None, folder="runs/mi_estimator/SUITE", seeds=[0])
    cli.add_cluster_argument(parser)
    add = parser.add_argument_group("run").add_argument
    retry = "with --resume: repeat cells that failed or took too long"
    add("--retry-failed", action="store_true", help=retry)
    add("--timeout", type=cli.positive_float, default=600.0, help="seconds a cell may take")
    add("--list", action="store_true", help="print suites and estimators, and stop")
    add = parser.add_argument_group("data").add_argument
    add("--suite", choices=SUITES, default="paper", help="tasks to run")
    add("--tasks", nargs="+", metavar="TASK", help="only these tasks of the suite")
    sizes = "numbers of training samples (by task if not given)"
    add("--n-train", type=cli.positive_int, nargs="+", help=sizes)
    add("--n-test", type=cli.positive_int, help="new test samples (by task if not given)")
    add, default = parser.add_argument_group("estimate").add_argument, ["softmax", "pc-softmax"]
    exact = "estimators; oracle averages the exact log ratio on the test samples"
    add("--estimators", nargs="+", choices=ESTIMATORS, default=default, help=exact)
    by_task = ("epochs", "batch_size", "lr", "members", "val_fraction")
    add_estimator_arguments(parser, Settings(weight_decay=1e-4), by_task=by_task)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if args.retry_failed and not args.resume:
        raise UserError("--retry-failed: only with --resume")
    if args.n_test == 1:
        raise UserError("--n-test 1: an interval needs at least two samples")

    from mi_common import runtime
    from mi_common.recipes import take
    from mi_common.records import prepare_output
    from mi_common.results import ResultsFile
    from mi_common.workers import run_cells
    from mi_estimator.cell import COLUMNS, KEY, Cell, check_memory, fingerprints, run_cell
    from mi_estimator.estimators.base import describe_devices, runtime_used
    from mi_estimator.tasks import suites

    if args.list:
        for name, tasks in suites.SUITES.items():
            print(f"{name}: {', '.join(tasks)}")
        print(f"estimators: {', '.join(ESTIMATORS)}")
        return
    estimators, seeds = list(dict.fromkeys(args.estimators)), list(dict.fromkeys(args.seeds))
    device = runtime_used(estimators, runtime.from_flags(args))
    suite = suites.SUITES[args.suite]
    if unknown := [name for name in args.tasks or [] if name not in suite]:
        raise UserError(f"--tasks {unknown[0]}: use some of {', '.join(suite)}")
    names = dict.fromkeys(args.tasks or suite)
    tasks = {name: suite[name].reading_from(args.data_dir) for name in names}
    for name, task in tasks.items():
        sizes, least = args.n_train or [task.n_train], 2 * task.distribution.num_classes
        if min(sizes) < least:
            raise UserError(f"--n-train {min(sizes)}: {name} needs at least {least}")
        check_memory(name, task, max(sizes), args.n_test or task.n_test)
    folder = args.output_dir or Path(f"runs/mi_estimator/{args.suite}")
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("seeds", "estimators", "n_train", "timeout"),
        data=fingerprints(tasks),
    )

    from mi_estimator.benchmark_report import report  # slow; the errors above do not wait for it

    place = describe_devices(estimators, device)
    print(f"mi_estimator: {place}, seeds {seeds}, writing {folder}", flush=True)

    text = {"task": suite, "estimator": ESTIMATORS, "status": None}
    results = ResultsFile(folder / "results.csv", COLUMNS, KEY, text=text)
    if args.retry_failed:
        results.drop(results.frame["status"] != "ok")
    flags = vars(take(Settings, args))
    given = {name: value for name, value in flags.items() if value is not None}
    jobs = {}
    for name, task in tasks.items():
        settings, n_test = dataclasses.replace(task.settings, **given), args.n_test or task.n_test
        sizes = dict.fromkeys(args.n_train or [task.n_train])
        for estimator, n_train, seed in itertools.product(estimators, sizes, seeds):
            key = (name, estimator, seed, n_train)
            cell = Cell(args.suite, *key, n_test, args.data_dir, args.timeout, settings)
            jobs[key] = (cell, device)
    computing = {"runtime": device, "num_workers": args.num_workers, "cluster": args.cluster}
    rows = run_cells(run_cell, jobs, results, **computing)
    report(rows, tasks, folder)
    more = " ".join(str(seed) for seed in [*seeds, max(seeds) + 1])
    print(f"next: the same command with --seeds {more} --resume adds a seed")


if __name__ == "__main__":
    main()
