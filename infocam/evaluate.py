"""Scores localisation maps against true boxes: the maps of trained runs, or saved maps.

    python -m infocam.evaluate runs/infocam/tiny-imagenet-softmax-0 --methods cam infocam infocam+
    python -m infocam.evaluate RUN RUN RUN --output-dir runs/infocam/three-seeds
    python -m infocam.evaluate --maps DIR --annotations boxes.csv --protocol wsol

All methods and thresholds come from one pass of the network. The threshold of each method, and
with several `--region` sizes the region, is chosen on the run's validation images (`validation`).
Beside it stand the scores at a given threshold (`fixed`) and at the best threshold of the test
images themselves (`oracle`). Centre box, whole image and maps of a random direction are the
baselines. Several runs make a table over seeds.

Options of boxes add rows: each option alone, and all together.

    python -m infocam.evaluate RUN --propagate --prior-map --threshold-rule adaptive --box-rule mean
    python -m infocam.evaluate RUN --propagate 2 --propagate-earlier 2 4 --prior-map

Writes `results.csv` and `table`; `differences.csv`, of each run over its images, and the table
`differences`, of one run over images and of several over images and seeds, to `cam`, `infocam`, the
centre box and the plain method of a refined one; `chosen.json`, what the validation images chose;
`by_object.csv` and a table, scores by where the object is and how large it is; of several runs
`over_seeds.csv` and `by_object_over_seeds.csv`, scores and differences over images and seeds. Of
the first run `threshold_curves` (`.csv`, `.png`, `.svg`), `overlays/`, galleries of the best, the
worst and the most different boxes, and with `--save-maps` `maps/SPLIT/METHOD/NAME.npy` and
`maps/SPLIT/annotations.csv`.
"""

from pathlib import Path

from infocam import names
from mi_common import cli
from mi_common.errors import UserError
from mi_common.recipes import take

FOR_RUNS = ("methods", "region", "region_padding", "padding", "output_stride", "prior")
FOR_RUNS += ("data_dir", "test_images", "propagate", "propagate_earlier", "prior_map")
FOR_RUNS += ("threshold_rule", "box_rule", "faithfulness", "overlays", "gallery", "save_maps")
# Candidates of flags without values.
EXPONENT, EARLIER_EXPONENTS, PRIOR_WEIGHTS = 4.0, (2.0, 4.0), (0, 0.25, 0.5)


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="folders that infocam.train wrote")
    data = "folder of the data sets; (default: that of the run)"
    cli.add_common_arguments(
        parser, output_dir=None, folder="RUN/evaluation", seed=False, data=data, resume=False
    )
    add = parser.add_argument_group("data").add_argument
    text = "test images to score, spread evenly over the split "
    text += "(default: all, but 2000 for scattered-digits)"
    add("--test-images", type=cli.positive_int, help=text)
    add = parser.add_argument_group("maps").add_argument
    add("--methods", nargs="+", default=names.DEFAULT_METHODS, help=names.ALL_METHODS)
    region = cli.count_to(names.MAX_REGION)
    add("--region", type=region, nargs="+", default=[1], help="sides of a mean filter, cells")
    text = "border of the mean filter"
    add("--region-padding", choices=names.PADDINGS, default="same", help=text)
    text = "how images continue beyond their edges (default: as in the run's training)"
    add("--padding", choices=names.IMAGE_PADDINGS, help=text)
    text = "pixels from one cell of the maps to the next: finer maps by the same weights (default: "
    text += "as in the run's training)"
    add("--output-stride", type=int, choices=(8, 16, 32), help=text)
    text = "of maps before their boxes: the smallest value becomes 0, or all below zero (max)"
    add("--normalisation", choices=names.NORMALISATIONS, default="minmax", help=text)
    text = "choose classes by pointwise mutual information, and give maps in nats"
    add("--prior", action="store_true", help=text)
    text = "add maps that are propagated between places with like features; exponents of the "
    text += "cosine similarity to choose from (4)"
    add(
        "--propagate", type=cli.positive_float, nargs="*", default=(), metavar="EXPONENT", help=text
    )
    text = "with --propagate: propagate a second time, over the features of the stage before the "
    text += "last, whose maps are finer; exponents to choose from (2 4)"
    flag, many = "--propagate-earlier", {"nargs": "*", "default": (), "metavar": "EXPONENT"}
    add(flag, type=cli.positive_float, **many, help=text)
    add = parser.add_argument_group("scores").add_argument
    text = "infocam: in the pixels of the image; wsol: of the benchmark of Choe et al. (2020); "
    text += "infocam-legacy: of the original code with its faults"
    add("--protocol", choices=names.PROTOCOLS, default="infocam", help=text)
    text = "threshold of the rows with the rule `fixed`, a fraction of the map's maximum"
    # The default is that of Zhou et al. (2016).
    add("--fixed-threshold", type=cli.fraction, default=0.2, help=text)
    text = "images with insertion and deletion curves, some 70 passes of the network each"
    add("--faithfulness", type=cli.non_negative_int, default=0, help=text)
    add = parser.add_argument_group("boxes, each option alone and all together").add_argument
    text = "add the mean map of the validation images to each map; weights to choose from "
    text += f"({' '.join(map(str, PRIOR_WEIGHTS))})"
    add("--prior-map", type=cli.non_negative_float, nargs="*", metavar="WEIGHT", help=text)
    text = "adaptive: a share of the map's mean is added to the threshold"
    add("--threshold-rule", choices=names.THRESHOLD_RULES, default="fixed", help=text)
    add("--box-rule", choices=names.BOX_RULES, default="largest", help=names.BOX_RULES_HELP)
    add = parser.add_argument_group("pictures and files").add_argument
    add("--overlays", type=cli.non_negative_int, default=12, help="number of overlays")
    add("--gallery", type=cli.non_negative_int, default=6, help="rows of each gallery")
    add("--save-maps", action="store_true", help="keep the maps, for --maps")
    add = parser.add_argument_group("saved maps, in place of runs").add_argument
    add("--maps", type=Path, help="folder of NAME.npy, one map for each image")
    add("--annotations", type=Path, help="true boxes, a CSV file or a folder of WSOL metadata")
    add("--val-maps", type=Path, help="maps of validation images, to choose the threshold on")
    add("--val-annotations", type=Path, help="true boxes of the validation images")
    return parser


def set_candidates(args) -> None:
    """Fills in the candidates of flags that were given without any."""
    if args.propagate == []:
        args.propagate = [EXPONENT]
    if args.propagate_earlier == []:
        args.propagate_earlier = list(EARLIER_EXPONENTS)
    if args.prior_map == []:
        args.prior_map = list(PRIOR_WEIGHTS)


def check_flags(parser: cli.Parser, args) -> None:
    """Ends the script with an error for flags that do not go together."""
    if bool(args.runs) == bool(args.maps):
        parser.error("give run folders, or --maps and --annotations")
    if bool(args.maps) != bool(args.annotations):
        parser.error("--maps and --annotations go together")
    if bool(args.val_maps) != bool(args.val_annotations):
        parser.error("--val-maps and --val-annotations go together")
    for name in FOR_RUNS if args.maps else ():
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is for runs, not for --maps")
    if args.propagate_earlier != () and args.propagate == ():
        parser.error("--propagate-earlier needs --propagate")
    if len(args.runs) > 1 and not args.output_dir:
        parser.error("--output-dir: name a folder for the table of several runs")


@cli.entry
def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    check_flags(parser, args)
    set_candidates(args)

    from contextlib import nullcontext

    import torch

    from infocam import evaluation
    from infocam.maps.cam import region_filter
    from infocam.maps.methods import parse_methods
    from infocam.models.classifiers import read_run
    from infocam.scoring import protocols
    from infocam.scoring.saved_maps import evaluate_saved_maps, save_maps
    from mi_common import runtime
    from mi_common.records import check_output, prepare_output
    from mi_common.workers import worker_pool

    device, flags = runtime.from_flags(args), vars(args)
    if device.world_size > 1:
        raise UserError("infocam.evaluate is one process; run it without torchrun")
    for region in args.region:
        region_filter(torch.zeros(1, 1, 1), region)  # its errors, before the work
    parse_methods(args.methods)
    source = args.runs[0] if args.runs else args.maps
    folder = args.output_dir or source / "evaluation"
    if folder.resolve() in (source.resolve(), *source.resolve().parents):
        raise UserError(f"--output-dir {folder}: {source} is in it; choose another folder")
    check_output(folder, flags, overwrite=args.overwrite)
    print(f"infocam: {device.describe()}, {source}, writing {folder}", flush=True)
    pool = worker_pool(args.num_workers) if args.num_workers > 1 else nullcontext()
    if args.maps:
        with pool as workers:
            evaluation_of_maps = evaluate_saved_maps(
                (args.maps, args.annotations),
                (args.val_maps, args.val_annotations) if args.val_maps else None,
                protocols.PROTOCOLS[args.protocol],
                normalisation=args.normalisation,
                fixed=args.fixed_threshold,
                workers=workers,
            )
        prepare_output(folder, flags, overwrite=args.overwrite)
        evaluation.write_results([evaluation_of_maps], folder)
        print(f"wrote {folder}/results.csv, chosen.json, table and differences")
        return
    options = take(evaluation.Options, args)
    runs = [read_run(path) for path in args.runs]
    evaluation.check_runs(runs)
    images = evaluation.read_images(runs, args.data_dir, args.test_images)
    evaluations, maps = [], None  # the maps of the first run
    with pool as workers:
        for run, sets in zip(runs, images, strict=True):
            of_run, scored = evaluation.evaluate_run(
                run, sets, options, runtime=device, workers=workers
            )
            evaluations.append(of_run)
            maps = maps or scored
    prepare_output(folder, flags, overwrite=args.overwrite)
    counts = {"overlays": args.overlays, "gallery": args.gallery}
    rows = evaluations[0].rows
    evaluation.write_pictures(rows, images[0]["test"], maps, options, folder, **counts)
    for split in maps if args.save_maps else ():
        save_maps(folder / "maps" / split, images[0][split], maps[split])
    accuracy = 100 * rows["accuracy"].iloc[0]
    print(f"{len(images[0]['test'])} test images; top-1 accuracy {accuracy:.1f} %.\n")
    evaluation.write_results(evaluations, folder)
    print(f"wrote {folder}/results.csv, chosen.json, tables, curves, galleries and overlays/")


if __name__ == "__main__":
    main()
