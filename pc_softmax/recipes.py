"""The flags that `train` and `compare` share, and what each data set takes where none is given."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from mi_common import cli
from mi_common.errors import UserError
from mi_common.optimisation import OPTIMIZERS, SCHEDULES
from pc_softmax.data import DATASETS, FILE_DATASETS, ImbalancedData, load_data
from pc_softmax.imbalance import parse_imbalance


@dataclass(frozen=True)
class Recipe:
    """What a data set takes where no flag says otherwise."""

    imbalance: str
    network: str
    freeze_backbone: bool
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    schedule: str


_PAPER_DIGITS = Recipe("paper", "paper-net", False, 8, 64, 0.01, 0.5, "constant")
_PHOTOGRAPHS = Recipe("paper", "efficientnet_lite0", True, 30, 64, 0.01, 0.9, "step")
_SMALL_IMAGES = Recipe("exp:100", "small-cnn", False, 30, 64, 0.05, 0.9, "cosine")
RECIPES = {
    "mnist": _PAPER_DIGITS,
    "fashion-mnist": _PAPER_DIGITS,
    "digits": Recipe("exp:10", "small-cnn", False, 30, 64, 0.05, 0.9, "cosine"),
    "cifar10": _SMALL_IMAGES,
    "cifar100": _SMALL_IMAGES,
    "tiny-imagenet": _PHOTOGRAPHS,
    "cub": Recipe("paper", "inception_v3", True, 45, 64, 0.01, 0.9, "step"),
    "folder": Recipe("none", "efficientnet_lite0", True, 30, 64, 0.01, 0.9, "step"),
}


def add_arguments(parser: cli.Parser) -> None:
    """The flags that `train` and `compare` share."""
    by_dataset = {
        name: "; ".join(f"{getattr(recipe, name)} for {key}" for key, recipe in RECIPES.items())
        for name in Recipe.__dataclass_fields__
    }
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        default="mnist",
        help="images to train on; folder: the data folder holds train/CLASS/* and test/CLASS/*",
    )
    parser.add_argument(
        "--imbalance",
        type=parse_imbalance,
        help=f"none, paper, step:RATIO or exp:RATIO ({by_dataset['imbalance']})",
    )
    parser.add_argument(
        "--val-fraction",
        type=cli.fraction,
        default=0.0,
        help="share of the training images that is held out, for bbse and to calibrate em",
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out and list images that do not open"
    )
    cli.add_training_arguments(parser, weight_decay=0.0, by_dataset=by_dataset)
    add = parser.add_argument_group("network and optimiser").add_argument
    add(
        "--network",
        help="paper-net (28 x 28 grey), small-cnn, efficientnet_lite0, a torchvision name or "
        f"timm:NAME ({by_dataset['network']})",
    )
    add("--weights", default="imagenet", help="of the backbone: imagenet, none or a file")
    add("--image-size", type=cli.image_side, help="side of image files (the network's own)")
    add(
        "--freeze-backbone",
        action=argparse.BooleanOptionalAction,
        help=f"train the head alone ({by_dataset['freeze_backbone']})",
    )
    add(
        "--augmented-copies",
        type=cli.non_negative_int,
        default=0,
        help="cached passes over random parts of the images, for a frozen backbone",
    )
    add("--optimizer", choices=OPTIMIZERS, default="sgd", help="optimiser")
    add("--momentum", type=cli.fraction, help=f"of SGD ({by_dataset['momentum']})")
    add("--schedule", choices=SCHEDULES, help=f"learning rate ({by_dataset['schedule']})")
    add(
        "--warmup-epochs",
        type=cli.non_negative_int,
        default=0,
        help="epochs of linearly rising learning rate",
    )
    add(
        "--head-lr-ratio",
        type=cli.positive_float,
        default=1.0,
        help="learning rate of the last layer over that of the rest",
    )
    add("--tau", type=cli.non_negative_float, default=1.0, help="of the logit-adjusted loss")
    add("--gamma", type=cli.non_negative_float, default=2.0, help="of the focal loss")
    add("--label-smoothing", type=cli.fraction, default=0.0, help="of softmax and weighted losses")


def set_defaults(args) -> None:
    """Fills in what the data set's recipe says, and checks what goes together."""
    for name, value in vars(RECIPES[args.dataset]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.augmented_copies and not (args.freeze_backbone and args.dataset in FILE_DATASETS):
        raise UserError("--augmented-copies: only for image files and a frozen backbone")
    if args.network == "paper-net" and args.dataset not in ("mnist", "fashion-mnist"):
        raise UserError(f"--network paper-net: 28 x 28 grey images only, not {args.dataset}")
    if args.image_size and args.dataset not in FILE_DATASETS:
        raise UserError(f"--image-size: only for image files, not {args.dataset}")


def read_data(args, say: Callable[[str], None]) -> ImbalancedData:
    """What the data flags say, errors as in `load_data`; `say` is told of images left out."""
    data = load_data(
        args.dataset,
        args.data_dir,
        imbalance=args.imbalance,
        val_fraction=args.val_fraction,
        seed=0,  # one validation part for all seeds
        skip_unreadable=args.skip_unreadable,
    )
    if data.skipped:
        say(f"left out {len(data.skipped)} unreadable images: {', '.join(map(str, data.skipped))}")
    return data


def train_options(args) -> dict:
    """The keyword arguments of `train` that the flags of `train` set."""
    training = ("epochs", "batch_size", "lr", "weight_decay", "optimizer", "momentum", "schedule")
    training += ("warmup_epochs", "head_lr_ratio")
    return {
        "loss": args.loss,
        "loss_options": {k: getattr(args, k) for k in ("drw", "tau", "gamma", "label_smoothing")},
        "retrain_head": args.retrain_head,
        "seed": args.seed,
        "training": {k: getattr(args, k) for k in training} | {"copies": args.augmented_copies},
    }
