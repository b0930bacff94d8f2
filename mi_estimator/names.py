"""Names and flags of the entry scripts. No library is imported, so that `--help` is fast.

Tests compare them with `mi_common.datasets`, `mi_estimator.tasks.suites` and `replicates`.
"""

from mi_common import cli
from mi_estimator.estimators.registry import Settings

IMAGE_SETS = ("mnist", "fashion-mnist", "digits", "cifar10", "cifar100", "tiny-imagenet")
SUITES = ("paper", "hard", "small-sample", "many-classes", "images")
COVERAGE_TASKS = ("gaussian-d2", "concentric-d5", "independent-k2", "independent-k10")
ENTROPIES = ("plug-in", "miller-madow")


def add_estimator_training_arguments(parser: cli.Parser, **defaults: float) -> None:
    """--epochs, --batch-size, --lr and --weight-decay; those without default depend on the task."""
    add = parser.add_argument_group("training").add_argument
    for name, parse, text in (
        ("epochs", cli.positive_int, "passes over the data"),
        ("batch_size", cli.positive_int, "samples a step"),
        ("lr", cli.positive_float, "(peak) learning rate"),
        ("weight_decay", cli.non_negative_float, "weight decay"),
    ):
        flag, default = f"--{name.replace('_', '-')}", defaults.get(name)
        text += " (by task if not given)" if default is None else ""
        add(flag, type=parse, default=default, help=text)


def add_network_arguments(
    parser: cli.Parser, *, members: int | None = None, val_fraction: float | None = None
) -> None:
    """--members, --val-fraction, --hidden and --k; a default of None depends on the task."""
    defaults, by_task = Settings(), "" if members else " (by task if not given)"
    add = parser.add_argument_group("training").add_argument
    averaged = f"networks whose logits are averaged{by_task}"
    add("--members", type=cli.count_to(1000), default=members, help=averaged)
    add(
        "--val-fraction",
        type=cli.fraction,
        default=val_fraction,
        help="share of the training samples that is a network's validation set: it chooses the "
        f"epoch and calibrates classifiers{by_task}",
    )
    add(
        "--hidden",
        type=cli.count_to(100_000),
        nargs="+",
        default=defaults.hidden,
        metavar="WIDTH",
        help="widths of the hidden layers of networks; images go through a fixed network",
    )
    neighbours = "neighbours of ross, mixed-ksg"
    add("--k", type=cli.count_to(10_000), default=defaults.k, help=neighbours)


def listed(names: list[str], most: int = 20) -> str:
    """`a, b, c`, shortened past `most` names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
