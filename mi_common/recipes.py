"""Hyper-parameters of training, and defaults that depend on the data set or the network."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mi_common import cli

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine", "one-cycle")


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of a training run.

    Attributes:
        batch_size: samples a step, all processes together.
        lr: (peak) learning rate of all but the head.
        momentum, nesterov: of SGD.
        schedule: of the learning rate; see `mi_common.training.learning_rate`.
        milestones: of the schedule "step", as fractions of all steps.
        warmup_epochs: epochs of linearly rising learning rate; "one-cycle" has its own.
        head_lr_ratio: learning rate of the head divided by `lr`.
        augment: whether images are randomly cropped or shifted and mirrored while the whole network
            trains; None for image files only.
        augmented_copies: cached passes over random parts of the images, for a frozen backbone.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: int = 0
    head_lr_ratio: float = 1.0
    augment: bool | None = None
    augmented_copies: int = 0


def flat(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe by name, those of a dataclass inside it among them."""
    values = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        values |= flat(value) if is_dataclass(value) else {field.name: value}
    return values


def set_defaults(args: argparse.Namespace, recipe: Any) -> None:
    """Gives each flag that is None or missing the recipe's value of the same name."""
    for name, value in flat(recipe).items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


def take(kind: type, args: argparse.Namespace) -> Any:
    """A dataclass, and those inside it, from the flags of the same names, else with defaults."""
    values = {}
    for field in fields(kind):
        if is_dataclass(field.type):
            values[field.name] = take(field.type, args)
        elif hasattr(args, field.name):
            value = getattr(args, field.name)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def add_training_arguments(parser: cli.Parser, defaults: Mapping[str, str]) -> None:
    """The flags of `Training`, without `nesterov`, which recipes decide; None if not given.

    `defaults` are those of `described_defaults`.
    """
    group = parser.add_argument_group("training")

    def add(name: str, text: str, **options) -> None:
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, help=f"{text} (default: {defaults[name]})", **options)

    add("epochs", "passes over the data", type=cli.positive_int)
    add("batch_size", "samples a step, all processes together", type=cli.positive_int)
    add("lr", "(peak) learning rate", type=cli.positive_float)
    add("weight_decay", "weight decay", type=cli.non_negative_float)
    add("optimizer", "optimiser", choices=OPTIMIZERS)
    add("momentum", "of SGD", type=cli.fraction)
    add("schedule", "of the learning rate", choices=SCHEDULES)
    milestones = "of the schedule step: fractions of all steps at which the rate falls tenfold"
    add("milestones", milestones, type=cli.fraction, nargs="+")
    add("warmup_epochs", "epochs of linearly rising learning rate", type=cli.non_negative_int)
    ratio = "learning rate of the head divided by that of the backbone"
    add("head_lr_ratio", ratio, type=cli.positive_float)
    group.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="random crops or shifts and mirror images, if the whole network trains (on for image "
        "files, off for images in memory)",
    )
    copies = "cached passes over random parts of image files, for a frozen backbone"
    add("augmented_copies", copies, type=cli.non_negative_int)


def described_defaults(recipes: Mapping[str, Any]) -> dict[str, str]:
    """For each field of the recipes a text such as "30 for cub, folder; 6 for digits"."""
    values = {name: flat(recipe) for name, recipe in recipes.items()}
    described = {}
    for field in next(iter(values.values())):
        names: dict[str, list[str]] = {}
        for name, of_name in values.items():
            names.setdefault(_shown(of_name[field]), []).append(name)
        texts = [f"{text} for {', '.join(group)}" for text, group in names.items()]
        described[field] = "; ".join(texts) if len(names) > 1 else next(iter(names))
    return described


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "unset" if value is None else str(value)
