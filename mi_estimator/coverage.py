"""Does the 95 % interval cover, and does the test of independence reject 5 %? A simulation.

    python -m mi_estimator.coverage --replicates 300

Each replicate draws new samples, cross-fits, and forms the interval. The interval should cover the
expected estimate of the replicate's networks on new samples, measured on 20,000 of them; I(X;Y)
itself lies above it. The table also shows how often the interval covers the mean of all replicates,
which also depends on the random training set. On independent features and labels, the share of
replicates whose permutation p-value is at most 0.05 is the test's size. Writes `coverage.csv`, one
row per task, and `replicates.csv`.
"""

import itertools

from mi_common import cli
from mi_common.errors import UserError
from mi_estimator.estimators.registry import CROSS_ENTROPY
from mi_estimator.names import COVERAGE_TASKS, WIDE_COVERAGE_TASKS


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir="runs/mi_coverage", seed=False, data=False)
    cli.add_cluster_argument(parser)
    add = parser.add_argument_group("simulation").add_argument
    names, default = (*COVERAGE_TASKS, *WIDE_COVERAGE_TASKS), list(COVERAGE_TASKS)
    add("--tasks", nargs="+", choices=names, default=default, help="tasks", metavar="TASK")
    count = cli.count_to(1_000_000)
    add("--replicates", type=count, default=300, help="data sets to draw from each task")
    add("--samples", type=cli.positive_int, default=500, help="samples in a data set")
    add("--permutations", type=cli.positive_int, default=199, help="permutations of each test")
    add("--estimator", choices=CROSS_ENTROPY, default="pc-softmax", help="estimator to cross-fit")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common import runtime
    from mi_common.errors import require_memory
    from mi_common.files import write_atomically
    from mi_common.records import prepare_output
    from mi_common.results import ResultsFile
    from mi_common.tables import to_markdown
    from mi_common.workers import run_cells
    from mi_estimator.estimators.base import describe_devices, runtime_used
    from mi_estimator.replicates import COLUMNS, KEY, TASKS, coverage, run_replicate

    device = runtime_used([args.estimator], runtime.from_flags(args))
    folder, tasks = args.output_dir, list(dict.fromkeys(args.tasks))
    least = max(20 * TASKS[name].num_classes for name in tasks)
    if args.samples < least:
        raise UserError(f"--samples {args.samples}: at least {least}, so that no class is too rare")
    require_memory(args.samples * 100, f"--samples {args.samples}", "use fewer")
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("tasks", "replicates"),
    )
    place = describe_devices([args.estimator], device)
    print(f"mi_estimator: {place}, writing {folder}", flush=True)
    shared = (args.estimator, args.samples, args.permutations, device)
    jobs = {key: (*key, *shared) for key in itertools.product(tasks, range(args.replicates))}
    results = ResultsFile(folder / "replicates.csv", COLUMNS, KEY, text={"task": TASKS})
    computing = {"runtime": device, "num_workers": args.num_workers, "cluster": args.cluster}
    rows = run_cells(run_replicate, jobs, results, **computing)
    table = coverage(rows)
    write_atomically(folder / "coverage.csv", lambda path: table.to_csv(path, index=False))
    print(to_markdown(table.round(4)))
    print(f"wrote to {folder}: coverage.csv, replicates.csv")
    print(f"next: the same command with --replicates {2 * args.replicates} --resume adds data sets")


if __name__ == "__main__":
    main()
