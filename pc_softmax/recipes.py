"""The flags that `train` and `compare` share, their defaults, and the settings that they give."""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mi_common import cli
from mi_common.errors import UserError
from mi_common.recipes import (
    Training,
    add_training_arguments,
    described_defaults,
    set_defaults,
    take,
)
from pc_softmax.names import SMOOTHED_LOSSES, TARGET_PRIORS

IDX_DATASETS = ("mnist", "fashion-mnist")
FILE_DATASETS = ("tiny-imagenet", "cub", "folder")
HEADS = ("linear", "cosine")
PAPER_DATASETS = (*IDX_DATASETS, "cub", "tiny-imagenet")  # those with the original's lists
# Keyword arguments of `pc_softmax.losses.build_loss`.
LOSS_OPTIONS = ("drw", "tau", "gamma", "beta", "margin", "scale", "label_smoothing")
LOSS_OPTIONS += ("lade_weight", "lade_penalty", "vs_gamma", "vs_tau")


@dataclass(frozen=True)
class Recipe:
    """Defaults of a data set."""

    imbalance: str
    network: str
    freeze_backbone: bool
    training: Training


def _sgd(epochs: int, lr: float, momentum: float, schedule: str) -> Training:
    return Training(epochs, 64, lr, momentum=momentum, schedule=schedule)


_PAPER_DIGITS = Recipe("paper", "paper-net", False, _sgd(8, 0.01, 0.5, "constant"))
_SMALL_IMAGES = Recipe("exp:100", "small-cnn", False, _sgd(30, 0.05, 0.9, "cosine"))
_PHOTOGRAPHS = _sgd(30, 0.01, 0.9, "step")
RECIPES = {
    "mnist": _PAPER_DIGITS,
    "fashion-mnist": _PAPER_DIGITS,
    "digits": Recipe("exp:10", "small-cnn", False, _sgd(30, 0.05, 0.9, "cosine")),
    "cifar10": _SMALL_IMAGES,
    "cifar100": _SMALL_IMAGES,
    "tiny-imagenet": Recipe("paper", "efficientnet_lite0", True, _PHOTOGRAPHS),
    "cub": Recipe("paper", "inception_v3", True, _sgd(45, 0.01, 0.9, "step")),
    "folder": Recipe("none", "efficientnet_lite0", True, _PHOTOGRAPHS),
}
DATASETS = tuple(RECIPES)


@dataclass(frozen=True)
class DataSettings:
    """Arguments of `pc_softmax.data.load_data`; all seeds share validation images."""

    dataset: str
    data_dir: Path
    imbalance: str
    val_fraction: float
    skip_unreadable: bool


@dataclass(frozen=True)
class Settings:
    """Everything that a run of `pc_softmax.train` depends on.

    Attributes:
        loss: one of LOSSES, with its `loss_options` as in `pc_softmax.losses.build_loss`.
        weights: of the backbone: "imagenet", "none" or a file.
        image_size: side of image files in pixels; None for the network's own.
        init: folder of a finished run whose network is the start; None for a new network.
        retrain_head: train a new head on the features of `init`, every class drawn equally often
            (cRT, Kang et al. 2020).
        head: the last layer, one of HEADS.
    """

    data: DataSettings
    network: str
    weights: str
    image_size: int | None
    freeze_backbone: bool
    loss: str
    loss_options: dict
    training: Training
    seed: int
    init: Path | None
    retrain_head: bool
    head: str
    num_workers: int

    @property
    def head_only(self) -> bool:
        return self.freeze_backbone or self.retrain_head

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> "Settings":
        """From the flags of `pc_softmax.train` by name, their defaults filled in."""
        loss_options = {name: flags[name] for name in LOSS_OPTIONS}
        head = flags.get("head") or default_head(flags["loss"])
        if head == "linear":  # whose logits need no widening
            loss_options["scale"] = 1.0
        given = dict(flags) | {"head": head, "loss_options": loss_options}
        return take(cls, argparse.Namespace(**given))


def default_head(loss: str) -> str:
    """Cosines for LDAM, whose margins need bounded logits, as in its paper; linear for others."""
    return "cosine" if loss == "ldam" else "linear"


def parse_imbalance(text: str) -> str:
    """The type of --imbalance, with the ratio in one spelling: "exp:100" for exp:1e2."""
    rule, colon, number = text.partition(":")
    if rule in ("none", "paper") and not colon:
        return text
    try:
        ratio = float(number)
    except ValueError:
        ratio = math.nan
    if rule not in ("step", "exp") or not 1 <= ratio < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of none, paper, step:RATIO, exp:RATIO with a RATIO from 1"
        )
    return f"{rule}:{int(ratio) if ratio.is_integer() else ratio}"


def add_arguments(parser: cli.Parser) -> None:
    """The flags that `train` and `compare` share."""
    defaults = described_defaults(RECIPES)
    add = parser.add_argument_group("data").add_argument
    text = "images to train on; folder: the data folder holds train/CLASS/* and test/CLASS/*"
    add("--dataset", choices=DATASETS, default="mnist", help=text)
    text = f"none, paper, step:RATIO or exp:RATIO (default: {defaults['imbalance']})"
    add("--imbalance", type=parse_imbalance, help=text)
    text = "share of the training images kept for validation: for bbse, and to calibrate em"
    add("--val-fraction", type=cli.fraction, default=0.0, help=text)
    add("--skip-unreadable", action="store_true", help="leave out and list images that do not open")
    add_training_arguments(parser, defaults)
    add = parser.add_argument_group("network").add_argument
    text = "paper-net (28 x 28 grey), small-cnn, efficientnet_lite0, a torchvision name or "
    add("--network", help=f"{text}timm:NAME (default: {defaults['network']})")
    add("--weights", default="imagenet", help="of the backbone: imagenet, none or a file")
    text = "side of image files (default: the network's own)"
    add("--image-size", type=cli.image_side, help=text)
    text = f"train the head alone (default: {defaults['freeze_backbone']})"
    add("--freeze-backbone", action=argparse.BooleanOptionalAction, help=text)
    add = parser.add_argument_group("loss").add_argument
    add("--tau", type=cli.non_negative_float, default=1.0, help="of the logit-adjusted loss")
    add("--gamma", type=cli.non_negative_float, default=2.0, help="of the focal loss")
    add("--beta", type=cli.fraction, default=0.9999, help="of class-balanced weights")
    add("--margin", type=cli.positive_float, default=0.5, help="of LDAM, for the rarest class")
    text = "last layer: linear, or cosines times --scale (default: cosine for ldam, else linear)"
    add("--head", choices=HEADS, help=text)
    text = "of the cosine head: its logits are this times the cosines"
    add("--scale", type=cli.positive_float, default=30.0, help=text)
    add("--lade-weight", type=cli.non_negative_float, default=0.1, help="of LADE's regulariser")
    text = "of the squared log mean in LADE's regulariser"
    add("--lade-penalty", type=cli.non_negative_float, default=0.01, help=text)
    text = "exponent of the factors of VS loss"
    add("--vs-gamma", type=cli.non_negative_float, default=0.15, help=text)
    add("--vs-tau", type=cli.non_negative_float, default=1.25, help="of the prior in VS loss")
    text = f"of {', '.join(SMOOTHED_LOSSES)}"
    add("--label-smoothing", type=cli.fraction, default=0.0, help=text)


def add_target_prior(add: Callable, *, default: str) -> None:
    metavar = "{" + ",".join(TARGET_PRIORS) + ",FILE}"
    text = "class prior that predictions assume; a FILE holds the header class,probability and a "
    text += "line for each class, or one probability a line"
    add("--target-prior", metavar=metavar, default=default, help=text)


def add_bootstrap(add: Callable) -> None:
    text = "resamples for the intervals of the class frequencies; 0 for none"
    add("--bootstrap", type=cli.non_negative_int, metavar="N", default=100, help=text)


def resolve(args: argparse.Namespace) -> None:
    """Fills in the data set's defaults, and checks which flags go together."""
    set_defaults(args, RECIPES[args.dataset])
    head_only = args.freeze_backbone or getattr(args, "retrain_head", False)
    if args.augment is not None and head_only:
        raise UserError("--augment: for training of the whole network; use --augmented-copies")
    if args.augmented_copies and not (args.freeze_backbone and args.dataset in FILE_DATASETS):
        raise UserError("--augmented-copies: only for image files and a frozen backbone")
    if args.network == "paper-net" and args.dataset not in IDX_DATASETS:
        raise UserError(f"--network paper-net: 28 x 28 grey images only, not {args.dataset}")
    if args.image_size and args.dataset not in FILE_DATASETS:
        raise UserError(f"--image-size: only for image files, not {args.dataset}")
