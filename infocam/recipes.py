"""The flags of `infocam.train`, and their defaults for each data set and network."""

import argparse
from dataclasses import dataclass, replace
from typing import Any

from infocam.names import IMAGE_PADDINGS
from mi_common import cli
from mi_common.errors import UserError
from mi_common.recipes import (
    Training,
    add_training_arguments,
    described_defaults,
    set_defaults,
)

WITH_VALIDATION = ("cubv2", "ilsvrc", "openimages30k")  # data sets that come with validation images
LOSSES = ("softmax", "pc-softmax")


@dataclass(frozen=True)
class DataRecipe:
    """Defaults of a data set; `images_per_class` None means all images."""

    network: str
    freeze_backbone: bool
    images_per_class: int | None
    val_per_class: int
    epochs: int


@dataclass(frozen=True)
class NetworkRecipe:
    """Defaults of a network; the data set decides the epochs."""

    training: Training
    output_stride: int | None = None
    adl: tuple[str, ...] = ()  # layers of --adl without names
    adl_gamma: float = 0.9  # see `infocam.models.adl.attention_dropout`


DATA_RECIPES = {
    "tiny-imagenet": DataRecipe("efficientnet_lite0", True, 100, 10, 30),
    "scattered-digits": DataRecipe("small-cnn", False, 1100, 100, 6),
    "cub": DataRecipe("efficientnet_lite0", True, None, 5, 30),
    "cubv2": DataRecipe("efficientnet_lite0", True, None, 0, 30),
    "ilsvrc": DataRecipe("efficientnet_lite0", True, None, 0, 10),
    "openimages30k": DataRecipe("efficientnet_lite0", True, None, 0, 30),
    "folder": DataRecipe("efficientnet_lite0", True, None, 5, 30),
}
DATASETS = tuple(DATA_RECIPES)
_ONE_CYCLE = {"weight_decay": 1e-2, "optimizer": "adamw", "schedule": "one-cycle"}
_NO_EPOCHS = 0  # of a network recipe: `DataRecipe.epochs` is used
# As Choe and Shim (2019) fine-tune ResNet50, and with the changes below VGG16.
_CHOE = Training(
    _NO_EPOCHS, 128, 0.01, weight_decay=1e-4, nesterov=True, schedule="step", head_lr_ratio=10.0
)
NETWORK_RECIPES = {
    "a frozen backbone": NetworkRecipe(Training(_NO_EPOCHS, 256, 1e-3, **_ONE_CYCLE)),
    "small-cnn": NetworkRecipe(Training(_NO_EPOCHS, 100, 4e-3, **_ONE_CYCLE)),
    "fine-tuned VGG16": NetworkRecipe(
        replace(_CHOE, batch_size=30, lr=0.001), adl=("pool3", "pool4", "conv5_3"), adl_gamma=0.8
    ),
    "fine-tuned ResNet50": NetworkRecipe(
        _CHOE, output_stride=16, adl=("layer3.0", "layer4.0", "layer4.2")
    ),
    "other fine-tuned networks": NetworkRecipe(_CHOE),
}


@dataclass(frozen=True)
class DataSettings:
    """Which images are used; arguments of `infocam.data.load.load_splits`."""

    dataset: str
    images_per_class: int | None
    val_per_class: int


@dataclass(frozen=True)
class Settings:
    """Everything that a run of `infocam.train` depends on.

    The network and its weights are those of `infocam.models.networks.build_network`, `adl` and
    `adl_gamma` those of `infocam.models.adl`; `padding` is one of `IMAGE_PADDINGS`.
    """

    data: DataSettings
    network: str
    weights: str
    output_stride: int | None
    image_size: int | None
    padding: str
    freeze_backbone: bool
    adl: tuple[str, ...]
    adl_gamma: float
    loss: str
    label_smoothing: float
    training: Training
    seed: int


def network_recipe(network: str, *, freeze_backbone: bool) -> NetworkRecipe:
    """The defaults of a network."""
    if network == "small-cnn":
        kind = network
    elif freeze_backbone:
        kind = "a frozen backbone"
    elif "resnet50" in network:
        kind = "fine-tuned ResNet50"
    else:
        kind = "fine-tuned VGG16" if "vgg" in network else "other fine-tuned networks"
    return NETWORK_RECIPES[kind]


def add_arguments(parser: cli.Parser) -> None:
    """The flags of training, after the common ones."""
    defaults = described_defaults(NETWORK_RECIPES) | described_defaults(DATA_RECIPES)
    for name, unset in (("images_per_class", "all"), ("output_stride", "the network's own")):
        defaults[name] = defaults[name].replace("unset", unset)

    def add(group: Any, name: str, text: str, **options) -> None:
        note = f" (default: {defaults[name]})" if name in defaults else ""
        group.add_argument(f"--{name.replace('_', '-')}", help=text + note, **options)

    group = parser.add_argument_group("data")
    add(group, "dataset", "data set", choices=DATASETS, default="tiny-imagenet")
    text = "training images of each class, in file order, the validation images included"
    add(group, "images_per_class", text, type=cli.positive_int)
    text = "validation images: the last ones of each class among these"
    add(group, "val_per_class", text, type=cli.positive_int)
    group = parser.add_argument_group("loss")
    add(group, "loss", "training loss", choices=LOSSES, default="softmax")
    add(group, "label_smoothing", "of softmax", type=cli.fraction, default=0.0)
    add_training_arguments(parser, defaults)
    group = parser.add_argument_group("network")
    text = "small-cnn (digits only), efficientnet_lite0, vgg16_gap, a torchvision name or timm:NAME"
    add(group, "network", text)
    add(group, "weights", "of the backbone: imagenet, none or a file", default="imagenet")
    text = "side of the images in pixels (default: that of the network)"
    add(group, "image_size", text, type=cli.image_side)
    text = "pixels from one cell of the map to the next"
    add(group, "output_stride", text, type=int, choices=(8, 16, 32))
    text = "how images continue beyond their edges"
    add(group, "padding", text, choices=IMAGE_PADDINGS, default="zero")
    add(group, "freeze_backbone", "train the head alone", action=argparse.BooleanOptionalAction)
    text = "attention-based dropout behind these layers; without names, behind the default ones"
    add(group, "adl", text, nargs="*", metavar="LAYER")
    text = "ADL hides positions above this fraction of the peak attention"
    add(group, "adl_gamma", text, type=cli.fraction)


def resolve(args: argparse.Namespace) -> None:
    """Fills in defaults; UserError for flags that contradict each other or have no effect."""
    if args.val_per_class is not None and args.dataset in WITH_VALIDATION:
        raise UserError(f"--val-per-class: {args.dataset} has validation images; leave it out")
    set_defaults(args, DATA_RECIPES[args.dataset])
    if (args.network == "small-cnn") != (args.dataset == "scattered-digits"):
        pair = f"--network {args.network} with --dataset {args.dataset}"
        raise UserError(f"{pair}: small-cnn and scattered-digits go together, and only together")
    if args.freeze_backbone and args.network == "small-cnn":
        raise UserError("--freeze-backbone: small-cnn has no trained weights; leave it out")
    if args.freeze_backbone and args.weights == "none":
        raise UserError("--weights none: a frozen backbone needs weights; use --no-freeze-backbone")
    if args.augment is not None and args.freeze_backbone:
        raise UserError("--augment: for training of the whole network; use --augmented-copies")
    if args.augmented_copies and not args.freeze_backbone:
        raise UserError("--augmented-copies: only for image files and a frozen backbone")
    if args.label_smoothing and args.loss != "softmax":
        raise UserError(f"--label-smoothing: loss {args.loss!r} has none; use --loss softmax")
    recipe = network_recipe(args.network, freeze_backbone=args.freeze_backbone)
    _resolve_adl(args, recipe)
    # The recipe's value of nesterov is for SGD with momentum.
    args.nesterov = False if args.optimizer == "adamw" or args.momentum == 0 else None
    set_defaults(args, recipe)


def _resolve_adl(args: argparse.Namespace, recipe: NetworkRecipe) -> None:
    if args.adl is None:
        if args.adl_gamma is not None:
            raise UserError("--adl-gamma: only with --adl")
        args.adl = ()
        return
    if args.freeze_backbone:
        raise UserError("--adl: it does not change a frozen backbone; use --no-freeze-backbone")
    args.adl = tuple(dict.fromkeys(args.adl)) or recipe.adl
    if not args.adl:
        raise UserError(f"--adl: {args.network} has no default layers; name some")
