"""Shows where in a photograph a network sees a class, and why not another one.

    python -m infocam.explain cat.jpg coffee.jpg --image-size 448
    python -m infocam.explain cat.jpg --label tabby --against "Egyptian cat" --prior
    python -m infocam.explain digit.png --run runs/infocam/scattered-digits-softmax-0

Without --run the network has its own ImageNet head: 1,000 classes by name. Each image gets
`STEM.png`, the picture, its maps with their boxes and the most likely classes, and `STEM.npz`:

    maps         (M, h, w) float32, signed, at the network's resolution
    methods      (M,) their names; class:NUMBER subtracts the map of that class
    boxes        (M, 4) x0 y0 x1 y1, inclusive pixels of the image; -1 where there is none,
                 as in a constant map
    scores       (K,) logits, or with --prior pointwise mutual information in nats
    class_names  (K,)
    label        the number of the class that the maps are of
"""

import argparse
from pathlib import Path

from infocam.names import ALL_METHODS, DEFAULT_METHODS, MAX_REGION, NORMALISATIONS
from mi_common import cli
from mi_common.errors import UserError

DEFAULTS = {"network": "efficientnet_lite0", "weights": "imagenet", "output_stride": 16}


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    options = {"seed": False, "data": False, "workers": False, "resume": False}
    cli.add_common_arguments(parser, output_dir="runs/explain", **options)
    add = parser.add_argument_group("network").add_argument
    add("--run", type=Path, help="folder that infocam.train wrote, for its network")
    text = "torchvision name or timm:NAME with a head trained on ImageNet, if no --run is given"
    add("--network", help=f"{text} ({DEFAULTS['network']})")
    add("--weights", help="its weights: imagenet or a file with a state dict (imagenet)")
    text = "pixels from one cell of its maps to the next (16 for efficientnet_lite0)"
    add("--output-stride", type=cli.positive_int, help=text)
    text = "side of the square that images are stretched to (the network's own)"
    add("--image-size", type=cli.image_side, help=text)
    add = parser.add_argument_group("maps").add_argument
    add("--label", help="name or number of the class to look for (the most likely)")
    add("--against", help="class to compare it with, as the method class:NAME does")
    add("--methods", nargs="+", default=DEFAULT_METHODS, help=f"maps to draw: {ALL_METHODS}")
    text = "side of a mean filter on the maps in cells, odd"
    add("--region", type=cli.count_to(MAX_REGION), default=1, help=text)
    text = "boxes enclose values above this fraction of the normalised map's largest"
    add("--threshold", type=cli.fraction, default=0.3, help=text)
    text = "scale of maps for their boxes: minmax and percentile make the smallest value 0, max "
    text += "all values below 0"
    add("--normalisation", choices=NORMALISATIONS, default="minmax", help=text)
    text = "maps and scores in nats of pointwise mutual information, under the training prior"
    add("--prior", action=argparse.BooleanOptionalAction, default=False, help=text)
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
    for name, value in DEFAULTS.items():
        if name not in given and (name != "output_stride" or default_network):
            setattr(args, name, value)


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    set_network_defaults(args)

    from infocam.explanation import summary_tables, unique_stems, write_explanation
    from infocam.maps.methods import class_number, parse_methods
    from infocam.maps.photographs import explain
    from infocam.models.classifiers import imagenet_classifier, run_classifier
    from mi_common import runtime
    from mi_common.pictures import read_image
    from mi_common.records import check_output, prepare_output
    from mi_common.tables import to_markdown

    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("infocam.explain is one process; run it without torchrun")
    for path in args.images:
        read_image(path)
    check_output(args.output_dir, vars(args), overwrite=args.overwrite)
    if args.run:
        classifier, source = run_classifier(args.run, runtime=device), f"run {args.run}"
    else:
        options = {"weights": args.weights, "output_stride": args.output_stride}
        classifier = imagenet_classifier(args.network, **options, runtime=device)
        source = f"{args.network} ({args.weights})"
    names = classifier.class_names
    label = None if args.label is None else class_number(args.label, names, "--label")
    methods = parse_methods(args.methods, names)
    if args.against is not None:
        methods.append(f"class:{class_number(args.against, names, '--against')}")
    device.say(f"infocam: {device.describe()}, {source}, writing {args.output_dir}")

    flags = ("image_size", "region", "threshold", "normalisation", "prior")
    options = {name: getattr(args, name) for name in flags} | {"label": label, "runtime": device}
    methods = list(dict.fromkeys(methods))
    explanations = [
        explain(read_image(path), classifier, methods, **options) for path in args.images
    ]
    prepare_output(args.output_dir, vars(args), overwrite=args.overwrite)
    written = []
    stems = unique_stems(args.images)
    for path, stem, explanation in zip(args.images, stems, explanations, strict=True):
        written += write_explanation(args.output_dir / stem, path, explanation, names, args.prior)
        reason = "the likeliest class" if label is None else "as asked for"
        device.say(f"\n{path}: {names[explanation.label]} ({explanation.label}), {reason}\n")
        for table in summary_tables(explanation, names, args.prior):
            device.say(to_markdown(table))
    device.say(f"wrote {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
