"""Names and flags of the entry scripts. No library is imported, so that `--help` is fast.

Tests compare them with `mi_common.datasets`, `mi_estimator.tasks.suites` and `replicates`.
"""

from collections.abc import Callable

from mi_common import cli
from mi_estimator.estimators.registry import Settings

IMAGE_SETS = ("mnist", "fashion-mnist", "digits", "cifar10", "cifar100", "tiny-imagenet")
SUITES = ("paper", "hard", "small-sample", "many-classes", "images", "tables")
COVERAGE_TASKS = ("gaussian-d2", "concentric-d5", "independent-k2", "independent-k10")
ENTROPIES = ("plug-in", "miller-madow")
MISSING = ("drop", "indicator")


def add_estimator_arguments(
    parser: cli.Parser, defaults: Settings, *, by_task: tuple[str, ...] = ()
) -> None:
    """A flag for each field of `Settings`; those named in `by_task` are None if not given."""
    group = parser.add_argument_group("training")

    def add(name: str, parse: Callable, text: str, **options) -> None:
        default = None if name in by_task else getattr(defaults, name)
        text += " (by task if not given)" if name in by_task else ""
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=parse, default=default, help=text, **options)

    add("epochs", cli.positive_int, "passes over the data")
    add("batch_size", cli.positive_int, "samples a step")
    add("lr", cli.positive_float, "(peak) learning rate")
    add("weight_decay", cli.non_negative_float, "weight decay")
    add("members", cli.count_to(1000), "networks whose logits are averaged")
    validation = "share of the training samples that is a network's validation set: it chooses "
    validation += "the epoch and calibrates classifiers"
    add("val_fraction", cli.fraction, validation)
    widths = "widths of the hidden layers of networks; images go through a fixed network"
    add("hidden", cli.count_to(100_000), widths, nargs="+", metavar="WIDTH")
    add("k", cli.count_to(10_000), "neighbours of ross, mixed-ksg")


def listed(names: list[str], most: int = 20) -> str:
    """`a, b, c`, shortened past `most` names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
