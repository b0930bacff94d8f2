"""How many nats do these features carry about this label? On your own table or images, or a set.

    python -m mi_estimator.estimate FILE --label COLUMN
    python -m mi_estimator.estimate --dataset folder --data-dir IMAGES --backbone efficientnet_lite0

The estimate is cross-fitted: every sample is scored by classifiers that were not trained on it. By
default they are a network and those of scikit-learn, mixed; a part of each fold's training samples
is a validation set that chooses the network's epoch, calibrates and gives the weights. All columns
but the label are features unless flags say otherwise; text, dates, booleans and, with --missing,
missing values become numbers. A row index or an id can reveal the label: a column without a name is
an error, and a column that looks like an index gives a warning. Images go to a network, or with
--backbone their features to the same classifiers as a table. Writes `estimate.json`, `table`
(.md, .tex), `pmi.csv` (the pointwise mutual information of each sample), `classes.csv`,
`pmi_by_class.png` and, except for neighbours, `calibration.png`.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from mi_estimator.estimators.registry import (
    CROSS_ENTROPY,
    FROM_SAMPLES,
    NEIGHBOUR_METHODS,
    NETWORKS,
    Settings,
    build_estimator,
)
from mi_estimator.names import (
    DATASETS,
    ENTROPIES,
    FILE_SETS,
    IMAGE_SETS,
    TABLE_OPTIONS,
    add_estimator_arguments,
    add_table_arguments,
    listed,
)


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir=None, folder="runs/mi_estimator/NAME", resume=False)
    add_table_arguments(parser, nargs="?")
    data = parser.add_argument_group("data")
    dataset = "training images instead of a file; folder: --data-dir/train/CLASS/*"
    data.add_argument("--dataset", choices=DATASETS, help=dataset)
    first = "use only so many images: the first, or of image files a random part of each class"
    data.add_argument("--max-samples", type=cli.positive_int, help=first)
    backbone = "use the features of a frozen network: efficientnet_lite0, torchvision's, timm:NAME"
    data.add_argument("--backbone", metavar="NAME", help=backbone)
    weights = "of the backbone: imagenet, none or a file (default: imagenet)"
    data.add_argument("--weights", help=weights)
    side = "side of image files for the backbone (default: the backbone's own)"
    data.add_argument("--image-size", type=cli.image_side, help=side)
    estimate = parser.add_argument_group("estimate")
    add = estimate.add_argument
    estimator = "estimator; auto mixes several calibrated classifiers"
    add("--estimator", choices=FROM_SAMPLES, default="auto", help=estimator)
    add("--folds", type=cli.positive_int, default=5, help="folds, at least 2")
    permuted = "permutations of the test of independence; 0 skips the test"
    add("--permutations", type=cli.non_negative_int, default=0, help=permuted)
    add = estimate.add_mutually_exclusive_group().add_argument
    entropy = "H(Y) of the label frequencies, as it is or with the Miller-Madow correction, which "
    entropy += "also corrects the estimate"
    add("--entropy", choices=ENTROPIES, default="plug-in", help=entropy)
    prior = "known class probabilities, classes in sorted order; samples are re-weighted"
    add("--known-prior", type=float, nargs="+", metavar="P", help=prior)
    add_estimator_arguments(parser, Settings())
    return parser


def check_flags(args: argparse.Namespace) -> None:
    """UserError for flags that do not go together."""
    if (args.file is None) == (args.dataset is None):
        raise UserError("give a FILE with --label COLUMN, or --dataset NAME, and not both")
    of_file = ("label", *TABLE_OPTIONS)
    if args.dataset and (given := [name for name in of_file if getattr(args, name)]):
        raise UserError(f"--{given[0].replace('_', '-')} is for a FILE only, not for --dataset")
    if args.dataset and not args.backbone and args.estimator not in NETWORKS:
        raise UserError(
            f"--estimator {args.estimator}: images need --backbone, or a network such as pc-softmax"
        )
    if args.estimator not in CROSS_ENTROPY and (args.known_prior or args.entropy != "plug-in"):
        raise UserError(
            f"--estimator {args.estimator}: it has no term H(Y); leave out --entropy, --known-prior"
        )
    for flag in ("max_samples", "backbone"):
        if args.file and getattr(args, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} is for --dataset")
    for flag in ("weights", "image_size"):
        if args.backbone is None and getattr(args, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} is for --backbone")
    if args.dataset in FILE_SETS and args.dataset not in IMAGE_SETS and args.backbone is None:
        raise UserError(
            f"--dataset {args.dataset}: images of any size need --backbone NAME, such as "
            "efficientnet_lite0"
        )
    if args.image_size is not None and args.dataset not in FILE_SETS:
        raise UserError(f"--image-size: only for image files, not {args.dataset}")


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    check_flags(args)

    from mi_estimator.samples import (
        check_folds,
        classes_without_validation,
        known_log_prior,
        read_samples,
    )

    # Before the imports below, which take seconds: a wrong file is an error at once.
    if args.dataset:
        from mi_estimator.images import backbone_samples, pixel_samples, read_images

        options = {"limit": args.max_samples, "seed": args.seed}
        images, notes = read_images(args.dataset, args.data_dir, **options)
        labels, class_names = images.labels, images.class_names
    else:
        options = {name: getattr(args, name) for name in TABLE_OPTIONS}
        samples = read_samples(args.file, args.label, **options)
        labels, class_names = samples.y, samples.class_names
    if args.estimator not in NEIGHBOUR_METHODS:
        counts = check_folds(labels, args.folds, class_names)
        if rare := classes_without_validation(counts, args.folds, class_names):
            print(
                f"warning: classes {listed(rare)} have fewer than 3 training samples in a fold, "
                "so none of them calibrates; merge them, or use more samples or folds",
                file=sys.stderr,
            )
    known = args.known_prior
    log_prior = known_log_prior(known, len(class_names)) if known else None

    from mi_common import runtime
    from mi_common.recipes import take
    from mi_common.records import check_output, prepare_output
    from mi_estimator.estimators.base import describe_devices, runtime_used
    from mi_estimator.estimators.crossfit import cross_fit
    from mi_estimator.folders import default_folder

    resolved = runtime.from_flags(args)
    device = runtime_used([args.estimator], resolved)
    parent = Path("runs/mi_estimator")
    folder = args.output_dir or default_folder(parent, args.file, args.dataset, args.data_dir)
    check_output(folder, vars(args), overwrite=args.overwrite)

    from mi_estimator.estimate_report import summary, write_estimate
    from mi_estimator.estimators.neighbours import NeighbourFit

    place = describe_devices([args.estimator], device)
    print(f"mi_estimator: {place}, seed {args.seed}, writing {folder}", flush=True)
    if args.dataset and args.backbone:
        samples = backbone_samples(
            images,
            notes,
            backbone=args.backbone,
            weights=args.weights or "imagenet",
            image_size=args.image_size,
            cache_dir=args.data_dir / "features",
            num_workers=args.num_workers,
            seed=args.seed,
            runtime=resolved,
        )
    elif args.dataset:
        samples = pixel_samples(images, notes)
    samples.print_notes()

    if args.estimator in NEIGHBOUR_METHODS:
        fit = NeighbourFit.of(args.estimator, samples.x, samples.y, seed=args.seed, k=args.k)
    else:
        build = partial(build_estimator, args.estimator, device, settings=take(Settings, args))
        options = {"folds": args.folds, "seed": args.seed, "log_prior": log_prior}
        fit = cross_fit(build, samples.x, samples.y, **options, show_progress=True)
    tested = args.permutations > 0
    p_value = fit.permutation_p_value(args.permutations, args.seed) if tested else None
    if miller_madow := args.entropy == "miller-madow":
        fit = fit.with_miller_madow()
    result = summary(fit, miller_madow=miller_madow, p_value=p_value)
    result |= {"features": samples.feature_names, "notes": samples.notes} | samples.source
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_estimate(fit, result, samples.class_names, folder, rows=samples.rows)
    if args.estimator in CROSS_ENTROPY:
        print(
            "the estimate is a lower bound on I(X;Y) in expectation; the interval is for this bound"
        )
    more = "--permutations 1000 --overwrite tests independence"
    if tested:
        more = "another --estimator and --output-dir compares the two"
    print(f"next: the same command with {more}")


if __name__ == "__main__":
    main()
