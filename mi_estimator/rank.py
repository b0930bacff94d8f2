"""Which features carry the information about the label, alone and given all others?

    python -m mi_estimator.rank FILE --label COLUMN

For each feature or group X_j: I(X_j; Y) alone, with the p-value of a permutation test, and
I(X_j; Y | the rest), the difference of two cross-fits on the same folds, with a paired interval. A
copy of another feature has much of the first and none of the second; in a parity it is the other
way round. p-values have Holm's correction.

By default, `auto` without its networks and extra trees ranks all features, and complete `auto` the
leaders again. Writes `rank.csv`, `rank` (.md, .tex), `rank.json` and `rank.png`; --resume continues
from `results.csv` and `all-*.npz`.
"""

import shlex
import sys
from pathlib import Path

from mi_common import cli
from mi_estimator.estimators.registry import CROSS_FITTED, Settings
from mi_estimator.names import TABLE_OPTIONS, add_estimator_arguments, add_table_arguments, listed


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir=None, folder="runs/mi_rank/NAME", data=False)
    cli.add_cluster_argument(parser)
    add_table_arguments(parser)
    estimate = parser.add_argument_group("estimate")
    groups = estimate.add_mutually_exclusive_group()
    group = "features that are ranked as one; may be given many times"
    groups.add_argument("--group", action="append", metavar="NAME=A,B,C", default=[], help=group)
    group = "file with a line NAME=A,B,C for each group"
    groups.add_argument("--groups", type=Path, metavar="FILE", help=group)
    add = estimate.add_argument
    given = "features or groups that are known: all information is conditional on them"
    add("--conditional-on", metavar="NAME", nargs="+", default=[], help=given)
    add("--estimator", choices=CROSS_FITTED, default="auto", help="estimator")
    leaders = "features that complete auto ranks again, after its fast candidates ranked all"
    add("--leaders", type=cli.non_negative_int, default=5, help=leaders)
    add("--folds", type=cli.positive_int, default=5, help="folds, at least 2")
    permutations = cli.count_to(1_000_000)
    permuted = "permutations of each test of independence"
    add("--permutations", type=permutations, default=1999, help=permuted)
    add_estimator_arguments(parser, Settings())
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_estimator.feature_groups import group_features, read_groups, split_given
    from mi_estimator.samples import check_folds, read_samples

    # Before the imports below, which take seconds: wrong files and names are errors at once.
    definitions = read_groups(args.groups, args.group)
    options = {name: getattr(args, name) for name in TABLE_OPTIONS}
    samples = read_samples(args.file, args.label, **options)
    check_folds(samples.y, args.folds, samples.class_names)
    groups = group_features(samples.source_columns, definitions)
    ranked, given = split_given(groups, args.conditional_on)

    from mi_common import runtime
    from mi_common.fingerprints import file_fingerprint
    from mi_common.recipes import take
    from mi_common.records import prepare_output
    from mi_estimator.estimators.base import describe_devices, runtime_used
    from mi_estimator.folders import default_folder

    device = runtime_used([args.estimator], runtime.from_flags(args))
    folder = args.output_dir or default_folder(Path("runs/mi_rank"), args.file)
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("leaders",),
        data={"file": file_fingerprint(args.file)},
    )

    from mi_estimator.rank_report import write_ranking
    from mi_estimator.ranking import Problem, rank_groups, stages_of

    stages = stages_of(args.estimator, take(Settings, args), args.leaders)
    if args.leaders >= len(ranked):  # all are ranked by the last one
        stages = stages[-1:]
    place = describe_devices([args.estimator], device)
    print(f"mi_estimator: {place}, seed {args.seed}, writing {folder}", flush=True)
    samples.print_notes()
    if definitions or given:
        print(f"ranking ({len(ranked)}): {listed([group.name for group in ranked])}", flush=True)
    tests = len(stages) * len(ranked)
    if not given and tests > 0.05 * (1 + args.permutations):
        warning = f"--permutations {args.permutations} are too few for a corrected p-value below"
        print(f"warning: {warning} 0.05; use {20 * tests}", file=sys.stderr)
    problem = Problem(
        samples.x.numpy(),
        samples.y.numpy(),
        given=tuple(position for group in given for position in group.features),
        folds=args.folds,
        seed=args.seed,
        permutations=args.permutations,
        runtime=device,
    )
    computing = {"num_workers": args.num_workers, "cluster": args.cluster}
    rows = rank_groups(problem, ranked, stages, leaders=args.leaders, folder=folder, **computing)
    names = [group.name for group in given]
    write_ranking(rows, samples.y, names, folder, estimators=len(stages))
    best = rows["feature"][rows["conditional"].iloc[:-1].idxmax()]
    more = shlex.join(["--conditional-on", *args.conditional_on, best])
    if len(ranked) == 1:
        more = "fewer features after --conditional-on"
    print(f"next: the same command with {more} and another --output-dir")


if __name__ == "__main__":
    main()
