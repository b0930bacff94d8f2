"""Where in a photograph of your own a network sees a class, and why not another.

    python -m infocam.explain cat.jpg coffee.jpg --image-size 448
    python -m infocam.explain cat.jpg --label tabby --against "Egyptian cat" --prior
    python -m infocam.explain digit.png --run runs/infocam/scattered-digits-softmax-0

Without --run the network is one with its own ImageNet head: 1,000 classes by name. Each image gets
`STEM.png`, the picture, its maps with their boxes and the likeliest classes, and `STEM.npz`:

    maps         (M, h, w) float32, signed, at the network's resolution
    methods      (M,) their names; class:NUMBER is set against that class
    boxes        (M, 4) x0 y0 x1 y1, inclusive pixels of the image; -1 where there is none,
                 as in a constant map
    scores       (K,) logits, or with --prior pointwise mutual information in nats
    class_names  (K,)
    label        the number of the class that the maps are of
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from infocam.figures.overlay import Overlay, save_explanation
from infocam.maps.methods import class_number, parse_methods
from infocam.maps.photographs import Explanation, explain
from infocam.models.classifiers import Classifier, imagenet_classifier, run_classifier
from infocam.names import GRADIENT_METHODS, MAX_REGION, NORMALISATIONS
from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.files import save_arrays
from mi_common.image_files import read_image
from mi_common.records import check_output, prepare_output
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown

METHODS = ("cam", "infocam", "infocam+")
DEFAULTS = {"network": "efficientnet_lite0", "weights": "imagenet", "output_stride": 16}
SHOWN = 5  # likeliest classes
SCORE = {False: "logit", True: "pointwise mutual information (nats)"}  # without and with --prior


def likeliest(found: Explanation) -> list[int]:
    """The classes to show: the likeliest, best first, and the label if it is none of them."""
    best = np.argsort(-found.scores, kind="stable")[:SHOWN].tolist()
    return best if found.label in best else [*best, found.label]


def rank_of(found: Explanation, k: int) -> int:
    """One more than the number of classes above class k."""
    return 1 + int((found.scores > found.scores[k]).sum())


def method_name(method: str, class_names: list[str]) -> str:
    kind, _, number = method.partition(":")
    return f"class:{class_names[int(number)]}" if kind == "class" else method


def tables(found: Explanation, class_names: list[str], prior: bool) -> tuple[pd.DataFrame, ...]:
    """The likeliest classes, and the methods with their boxes."""
    classes = [
        {
            "rank": rank_of(found, k),
            "class": class_names[k],
            "number": k,
            SCORE[prior]: f"{found.scores[k]:.2f}",
        }
        for k in likeliest(found)
    ]
    methods = [
        {
            "method": method_name(method, class_names),
            "against": against,
            "box x0 y0 x1 y1": " ".join(map(str, box)) if box[0] >= 0 else "none",
        }
        for method, against, box in zip(
            found.methods, found.against, found.boxes.tolist(), strict=True
        )
    ]
    return pd.DataFrame(classes), pd.DataFrame(methods)


def write(
    stem: Path, path: Path, found: Explanation, class_names: list[str], prior: bool
) -> list[Path]:
    """The PNG and the arrays of one image."""
    png, npz = (stem.with_name(stem.name + end) for end in (".png", ".npz"))
    titles = []
    for method, against in zip(found.methods, found.against, strict=True):
        name = "map" if method.startswith("class:") else method_name(method, class_names)
        unit = ", nats" if prior and method not in GRADIENT_METHODS else ""
        titles.append(name + unit + (f", less {against}" if against in class_names else ""))
    boxes = {t: box for t, box in zip(titles, found.boxes, strict=True) if box[0] >= 0}
    maps = dict(zip(titles, found.maps, strict=True))
    shown, label = likeliest(found), class_names[found.label]
    save_explanation(
        png,
        Overlay(np.asarray(read_image(path)), maps, boxes, np.zeros((0, 4)), label),
        [f"{rank_of(found, k)}. {class_names[k]}" for k in shown],
        found.scores[shown],
        marked=shown.index(found.label),
        score=SCORE[prior],
    )
    arrays = {name: getattr(found, name) for name in ("maps", "methods", "boxes", "scores")}
    save_arrays(npz, **arrays, class_names=class_names, label=found.label)
    return [png, npz]


def unique_stems(paths: list[Path]) -> list[str]:
    """File names without their ends; the second `cat` becomes `cat-2`."""
    stems: list[str] = []
    for path in paths:
        stem, number = path.stem, 1
        while stem in stems:
            number += 1
            stem = f"{path.stem}-{number}"
        stems.append(stem)
    return stems


def get_parser() -> cli.Parser:
    parser = cli.Parser("Show where in photographs a network sees a class, and why not another.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    options = {"seed": False, "workers": False, "resume": False}
    cli.add_common_arguments(parser, output_dir="runs/explain", **options)
    parser.add_argument("--run", type=Path, help="folder that infocam.train wrote, for its network")
    parser.add_argument(
        "--network",
        help="torchvision name or timm:NAME with a head trained on ImageNet, if no --run is given "
        f"({DEFAULTS['network']})",
    )
    parser.add_argument(
        "--weights", help="its weights: imagenet or a file with a state dict (imagenet)"
    )
    parser.add_argument(
        "--output-stride",
        type=cli.positive_int,
        help="pixels from one cell of its maps to the next (16 for efficientnet_lite0; others as "
        "they are)",
    )
    parser.add_argument(
        "--image-size",
        type=cli.image_side,
        help="side of the square that images are stretched to, more for larger maps "
        "(the network's own)",
    )
    parser.add_argument("--label", help="name or number of the class to look for (the likeliest)")
    parser.add_argument("--against", help="class to set it against, as the method class:NAME does")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        help="maps to draw: cam, infocam, infocam+, similar, posterior, lowest:N, class:NAME, "
        + ", ".join(GRADIENT_METHODS),
    )
    parser.add_argument(
        "--region",
        type=cli.count_to(MAX_REGION),
        default=1,
        help="mean filter on the maps, cells, odd",
    )
    parser.add_argument(
        "--threshold",
        type=cli.fraction,
        default=0.3,
        help="boxes hold what is above this fraction of the normalised map's largest value",
    )
    parser.add_argument(
        "--normalisation",
        choices=NORMALISATIONS,
        default="minmax",
        help="of maps before their boxes: what is 0, the smallest value, or zero and all below "
        "(max)",
    )
    parser.add_argument(
        "--prior",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="pointwise mutual information, in nats, under the prior of the training classes",
    )
    return parser


def _classifier(args: argparse.Namespace, device: Runtime) -> Classifier:
    """That of the flags, whose defaults are filled in."""
    given = [name for name in DEFAULTS if getattr(args, name) is not None]
    if args.run is not None:
        if given:
            flag = f"--{given[0].replace('_', '-')}"
            raise UserError(f"{flag} {getattr(args, given[0])} with --run: leave one of them out")
        return run_classifier(args.run, args.data_dir, runtime=device)
    default_network = args.network in (None, DEFAULTS["network"])
    for name, value in DEFAULTS.items():
        if name not in given and (name != "output_stride" or default_network):
            setattr(args, name, value)
    return imagenet_classifier(
        args.network, weights=args.weights, output_stride=args.output_stride, runtime=device
    )


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("infocam.explain is one process; run it without torchrun")
    for path in args.images:
        read_image(path)
    check_output(args.output_dir, vars(args), overwrite=args.overwrite)
    classifier = _classifier(args, device)
    names = classifier.class_names
    label = None if args.label is None else class_number(args.label, names, "--label")
    methods = parse_methods(args.methods, names)
    if args.against is not None:
        methods.append(f"class:{class_number(args.against, names, '--against')}")
    source = f"run {args.run}" if args.run else f"{args.network} ({args.weights})"
    device.say(f"infocam: {device.describe()}, {source}, writing {args.output_dir}")

    kept = ("image_size", "region", "threshold", "normalisation", "prior")
    options = {name: getattr(args, name) for name in kept}
    methods = list(dict.fromkeys(methods))
    explained = [
        explain(read_image(path), classifier, methods, label=label, **options, runtime=device)
        for path in args.images
    ]
    prepare_output(args.output_dir, vars(args), overwrite=args.overwrite)
    written = []
    for path, stem, found in zip(args.images, unique_stems(args.images), explained, strict=True):
        written += write(args.output_dir / stem, path, found, names, args.prior)
        how = "the likeliest class" if label is None else "as asked for"
        device.say(f"\n{path}: {names[found.label]} ({found.label}), {how}\n")
        for table in tables(found, names, args.prior):
            device.say(to_markdown(table))
    device.say(f"wrote {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
