"""The flags of `infocam.train`, and what data set and network take where none is given."""

import argparse
from dataclasses import dataclass, replace

from infocam.data.load import DATASETS
from mi_common import cli
from mi_common.errors import UserError
from mi_common.optimisation import OPTIMIZERS, SCHEDULES

LOSSES = ("softmax", "pc-softmax")
OWN_HELD_OUT = ("cubv2", "ilsvrc")  # their held-out images are a split of their own


@dataclass(frozen=True)
class Recipe:
    """What a data set takes; `images_per_class` None is all of them."""

    network: str
    freeze_backbone: bool
    images_per_class: int | None
    held_out_per_class: int
    epochs: int


@dataclass(frozen=True)
class Training:
    """How the weights that are to be trained are trained; `adl` is what a bare --adl means."""

    batch_size: int
    lr: float
    weight_decay: float
    optimizer: str = "adamw"
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "one-cycle"
    head_lr_ratio: float = 1.0
    output_stride: int | None = None
    adl: tuple[str, ...] = ()
    adl_gamma: float = 0.9
    adl_rate: float = 0.75


RECIPES = {
    "tiny-imagenet": Recipe("efficientnet_lite0", True, 100, 10, 30),
    "scattered-digits": Recipe("small-cnn", False, 1100, 100, 6),
    "cub": Recipe("efficientnet_lite0", True, None, 5, 30),
    "cubv2": Recipe("efficientnet_lite0", True, None, 0, 30),
    "ilsvrc": Recipe("efficientnet_lite0", True, None, 0, 10),
    "folder": Recipe("efficientnet_lite0", True, None, 5, 30),
}
FROZEN = Training(256, 1e-3, 1e-2)
SMALL_CNN = Training(100, 4e-3, 1e-2)
# Choe and Shim (2019) have VGG16 and ResNet50 so; other networks take the rates of ResNet50.
FINE_TUNED = Training(128, 0.01, 1e-4, "sgd", 0.9, True, "step", 10.0)
FINE_TUNED_RESNET50 = replace(
    FINE_TUNED, output_stride=16, adl=("layer3.0", "layer4.0", "layer4.2")
)
FINE_TUNED_VGG = replace(
    FINE_TUNED, batch_size=30, lr=0.001, adl=("pool3", "pool4", "conv5_3"), adl_gamma=0.8
)


def training_recipe(network: str, *, freeze_backbone: bool) -> Training:
    """How a network is trained where no flag says otherwise."""
    if network == "small-cnn":
        return SMALL_CNN
    if freeze_backbone:
        return FROZEN
    if "resnet50" in network:
        return FINE_TUNED_RESNET50
    return FINE_TUNED_VGG if "vgg" in network else FINE_TUNED


def add_arguments(parser: cli.Parser) -> None:
    """The flags of training, after the common ones."""
    trainings = {
        "a frozen backbone": FROZEN,
        "small-cnn": SMALL_CNN,
        "fine-tuned VGG16": FINE_TUNED_VGG,
        "fine-tuned ResNet50": FINE_TUNED_RESNET50,
        "other fine-tuned networks": FINE_TUNED,
    }
    defaults = _described(RECIPES) | _described(trainings)
    parser.add_argument("--dataset", choices=DATASETS, default="tiny-imagenet", help="images")
    cli.add_training_arguments(parser, by_dataset=defaults)
    parser.add_argument("--loss", choices=LOSSES, default="softmax", help="training loss")
    parser.add_argument(
        "--images-per-class",
        type=cli.positive_int,
        help="training images of each class to use, in file order, the held-out ones included "
        f"({defaults['images_per_class']})",
    )
    parser.add_argument(
        "--held-out-per-class",
        type=cli.positive_int,
        help="the last so many of these choose the threshold and do not train "
        f"({defaults['held_out_per_class']})",
    )

    def add(name: str, text: str, **options) -> None:
        note = f" ({defaults[name]})" if name in defaults else ""
        group.add_argument(f"--{name.replace('_', '-')}", help=text + note, **options)

    group = parser.add_argument_group("network")
    add(
        "network",
        "small-cnn (digits only), efficientnet_lite0, vgg16_gap, a torchvision name or timm:NAME",
    )
    add("weights", "of the backbone: imagenet, none or a file", default="imagenet")
    add("image_size", "side of the images; the network's own if not given", type=cli.image_side)
    add(
        "output_stride",
        "pixels from one cell of the map to the next",
        type=int,
        choices=(8, 16, 32),
    )
    add("freeze_backbone", "train the head alone", action=argparse.BooleanOptionalAction)
    add(
        "adl",
        "put attention-based dropout behind these layers; no names: the network's default ones",
        nargs="*",
        metavar="LAYER",
    )
    add("adl_gamma", "places above this share of the peak are hidden", type=cli.fraction)
    add("adl_rate", "share of passes that hide instead of weighing", type=cli.fraction)
    group = parser.add_argument_group("optimiser")
    add("optimizer", "optimiser", choices=OPTIMIZERS)
    add("momentum", "of SGD", type=cli.fraction)
    add("nesterov", "Nesterov's momentum in SGD", action=argparse.BooleanOptionalAction)
    add("schedule", "learning rate", choices=(*SCHEDULES, "one-cycle"))
    add("head_lr_ratio", "rate of the head over that of the rest", type=cli.positive_float)


def set_defaults(args) -> None:
    """Fills in what the recipes say, and checks what goes together.

    Raises:
        UserError: flags that contradict each other or would have no effect.
    """
    if args.held_out_per_class is not None and args.dataset in OWN_HELD_OUT:
        raise UserError(
            f"--held-out-per-class: {args.dataset} has a held-out split of its own; leave it out"
        )
    _fill(args, RECIPES[args.dataset])
    if (args.network == "small-cnn") != (args.dataset == "scattered-digits"):
        raise UserError(
            f"--network {args.network} with --dataset {args.dataset}: small-cnn and "
            "scattered-digits go together, and only together"
        )
    if args.freeze_backbone and args.network == "small-cnn":
        raise UserError("--freeze-backbone: small-cnn has no trained weights; leave it out")
    if args.freeze_backbone and args.weights == "none":
        raise UserError("--weights none: a frozen backbone needs weights; use --no-freeze-backbone")
    recipe = training_recipe(args.network, freeze_backbone=args.freeze_backbone)
    _set_adl(args, recipe)
    if args.nesterov is None and (args.optimizer == "adamw" or args.momentum == 0):
        args.nesterov = False  # what the recipe says of it is for its own optimiser
    _fill(args, recipe)
    if args.nesterov and (args.optimizer != "sgd" or args.momentum == 0):
        raise UserError("--nesterov: only with --optimizer sgd and a --momentum above 0")


def _set_adl(args, recipe: Training) -> None:
    if args.adl is None:
        for name in ("adl_gamma", "adl_rate"):
            if getattr(args, name) is not None:
                raise UserError(f"--{name.replace('_', '-')}: only with --adl")
        args.adl = ()
        return
    if args.freeze_backbone:
        raise UserError("--adl: a frozen backbone does not learn from it; use --no-freeze-backbone")
    args.adl = tuple(dict.fromkeys(args.adl)) or recipe.adl
    if not args.adl:
        raise UserError(f"--adl: {args.network} has no default layers; name some")


def _fill(args, recipe: Recipe | Training) -> None:
    for name, value in vars(recipe).items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _described(recipes: dict[str, Recipe] | dict[str, Training]) -> dict[str, str]:
    """Which recipes have which value of each field, for the help of its flag."""
    texts = {}
    for field in vars(next(iter(recipes.values()))):
        users: dict[str, list[str]] = {}
        for name, recipe in recipes.items():
            users.setdefault(_shown(getattr(recipe, field)), []).append(name)
        texts[field] = "; ".join(f"{value} for {', '.join(keys)}" for value, keys in users.items())
        if len(users) == 1:
            texts[field] = next(iter(users))
    return texts


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "unset", True: "yes", False: "no"}[value]
    return str(value)
