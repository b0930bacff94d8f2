"""Shows where in photographs a network sees a class, and why not another one.

    python -m infocam.explain cat.jpg coffee.jpg --image-size 448
    python -m infocam.explain holiday 'more/**/*.jpg' --top 3
    python -m infocam.explain cat.jpg --labels tabby "Egyptian cat" --prior
    python -m infocam.explain digit.png --run runs/infocam/scattered-digits-softmax-0

Reads picture files, all pictures in and below folders, and patterns. Without --run the network has
its own ImageNet head: 1,000 classes by name. A run of `infocam.train` or `pc_softmax.train` needs
neither its data nor its data folder. A second call adds to the output folder; a picture whose name
is taken there gets a number. Writes

    STEM.png      the picture with its box, the maps, the probabilities; STEM.svg with --format svg
    boxes.csv     a row for each map: name (the STEM), file, class, its probability, method,
                  x0 y0 x1 y1 (inclusive pixels of the image; empty where there is no box),
                  score (of the class: logit, with --prior pointwise mutual information in nats)
    boxes.json    the same rows, with `box` as a list or null
    explain.html  all pictures of the folder, with a slider for the threshold of the boxes
    STEM.npz      maps (M, h, w) float32, signed, at the network's resolution; methods (M,),
                  class:NUMBER subtracts the map of that class; labels (M,) class numbers; boxes
                  (M, 4), -1 where there is none; scores, probabilities and class_names (K,)

A map that is, summed over the image, evidence against its class gets no box and says so.
"""

import argparse
from pathlib import Path

from infocam.names import (
    ALL_METHODS,
    BOX_RULES,
    BOX_RULES_HELP,
    EXPLAINED_METHODS,
    FIGURE_FORMATS,
    IMAGE_PADDINGS,
    MAX_REGION,
    NORMALISATIONS,
)
from mi_common import cli
from mi_common.errors import UserError

ENTRY = "infocam.explain"  # in config.json
MAX_TOP = 20
DEFAULTS = {"network": "efficientnet_lite0", "weights": "imagenet", "output_stride": 16}


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    text = "picture files, folders with pictures at any depth, and patterns such as 'a/**/*.jpg'"
    parser.add_argument("images", type=Path, nargs="+", metavar="PICTURES", help=text)
    options = {"seed": False, "data": False, "workers": False, "resume": False}
    cli.add_common_arguments(parser, output_dir="runs/explain", **options)
    add = parser.add_argument_group("network").add_argument
    add(
        "--run",
        type=Path,
        help="folder of a run of infocam.train or pc_softmax.train, for its network",
    )
    text = "torchvision name or timm:NAME with a head trained on ImageNet, if no --run is given"
    add("--network", help=f"{text} ({DEFAULTS['network']})")
    add("--weights", help="its weights: imagenet or a file with a state dict (imagenet)")
    text = "pixels from one cell of its maps to the next (16 for efficientnet_lite0)"
    add("--output-stride", type=cli.positive_int, help=text)
    text = "side of the square that images are stretched to (the network's own)"
    add("--image-size", type=cli.image_side, help=text)
    text = "how pictures continue beyond their edges, for the maps; reflect avoids bands along the "
    text += "edges of uniform pictures (that of the run, else zero)"
    add("--padding", choices=IMAGE_PADDINGS, help=text)
    add = parser.add_argument_group("maps").add_argument
    text = "names or numbers of the classes to look for, in one figure (the most likely class)"
    add("--labels", nargs="+", metavar="CLASS", help=text)
    text = "look for so many of the most likely classes"
    add("--top", type=cli.count_to(MAX_TOP), metavar="N", help=f"{text} (1)")
    text = "class to compare them with, as the method class:NAME does, in place of the runner-up"
    add("--against", metavar="CLASS", help=text)
    text = f"maps of each class: {ALL_METHODS} (infocam, and for a single class similar)"
    add("--methods", nargs="+", metavar="METHOD", help=text)
    text = "side of a mean filter on the maps in cells, odd"
    add("--region", type=cli.count_to(MAX_REGION), default=1, help=text)
    text = "boxes enclose values above this fraction of the normalised map's largest"
    add("--threshold", type=cli.fraction, default=0.3, help=text)
    text = "scale of maps for their boxes: max boxes only evidence for the class, minmax and "
    text += "percentile make the smallest value 0"
    add("--normalisation", choices=NORMALISATIONS, default="max", help=text)
    add("--box-rule", choices=BOX_RULES, default="largest", help=BOX_RULES_HELP)
    text = "maps and scores in nats of pointwise mutual information, under the training prior"
    add("--prior", action=argparse.BooleanOptionalAction, default=False, help=text)
    text = "of the figures"
    add(
        "--format",
        choices=FIGURE_FORMATS,
        default=FIGURE_FORMATS[0],
        help=text,
    )
    return parser


def set_network_defaults(args: argparse.Namespace) -> None:
    """Fills in the flags of the network; UserError for any of them beside --run."""
    given = [name for name in DEFAULTS if getattr(args, name) is not None]
    if args.run is not None and given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UserError(f"{flag} {getattr(args, given[0])} with --run: leave one of them out")
    if args.run is not None:
        return
    default_network = args.network in (None, DEFAULTS["network"])
    if args.padding is None:
        args.padding = "zero"
    for name, value in DEFAULTS.items():
        if name not in given and (name != "output_stride" or default_network):
            setattr(args, name, value)


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    set_network_defaults(args)
    if args.labels is not None and args.top is not None:
        raise UserError(f"--top {args.top} with --labels: leave one of them out")

    from infocam.explanation import Options, counted, explain_files, print_report
    from infocam.maps.methods import class_number, parse_methods
    from infocam.models.classifiers import imagenet_classifier
    from infocam.models.pc_softmax_runs import classifier_of_run
    from mi_common import runtime
    from mi_common.pictures import picture_files, printable
    from mi_common.records import check_output, prepare_output

    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("infocam.explain is one process; run it without torchrun")
    paths, others = picture_files(args.images)
    output = {"overwrite": args.overwrite, "adds_to": ENTRY}
    check_output(args.output_dir, vars(args), **output)
    if args.run:
        classifier = classifier_of_run(args.run, padding=args.padding, runtime=device)
        source = f"run {args.run}"
    else:
        options = {"weights": args.weights, "output_stride": args.output_stride}
        options |= {"padding": args.padding, "runtime": device}
        classifier = imagenet_classifier(args.network, **options)
        source = f"{args.network} ({args.weights})"
    names, labels = classifier.class_names, None
    if args.labels is not None:
        labels = list(dict.fromkeys(class_number(text, names, "--labels") for text in args.labels))
    several = (args.top or len(labels or [0])) > 1
    methods = parse_methods(args.methods or EXPLAINED_METHODS[1 + several], names)
    if args.against is not None:
        methods = [name for name in methods if args.methods or name != "similar"]
        methods.append(f"class:{class_number(args.against, names, '--against')}")
    device.say(f"infocam: {device.describe()}, {source}, {counted(len(paths))}")
    if others:
        first = printable(others[0])
        device.say(f"left out {len(others)} files that are no pictures, such as {first}")
    report = explain_files(
        paths,
        args.output_dir,
        classifier,
        Options(
            methods=list(dict.fromkeys(methods)),
            labels=labels,
            top=args.top or 1,
            image_size=args.image_size,
            region=args.region,
            threshold=args.threshold,
            normalisation=args.normalisation,
            box_rule=args.box_rule,
            prior=args.prior,
            figure_format=args.format,
        ),
        prepare=lambda: prepare_output(
            args.output_dir, vars(args), description={"entry": ENTRY}, **output
        ),
        runtime=device,
    )
    print_report(report, args.output_dir)


if __name__ == "__main__":
    main()
