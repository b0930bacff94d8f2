"""Names and flags of the entry scripts. No library is imported, so that `--help` is fast.

Tests compare them with `mi_common.datasets`, `mi_estimator.tasks.suites` and `replicates`.
"""

from collections.abc import Callable
from pathlib import Path

from mi_common import cli
from mi_estimator.estimators.registry import CANDIDATES, Settings

IMAGE_SETS = ("mnist", "fashion-mnist", "digits", "cifar10", "cifar100", "tiny-imagenet")
FILE_SETS = ("tiny-imagenet", "cub", "folder")  # image files, read for a backbone
DATASETS = (*IMAGE_SETS, "cub", "folder")
SUITES = ("paper", "hard", "small-sample", "many-classes", "images", "tables")
COVERAGE_TASKS = ("gaussian-d2", "concentric-d5", "independent-k2", "independent-k10")
WIDE_COVERAGE_TASKS = ("independent-k2-d50", "independent-k5-d50", "independent-k10-d50")
ENTROPIES = ("plug-in", "miller-madow")
MISSING = ("drop", "indicator")
TABLE_OPTIONS = ("features", "drop", "drop_constant", "missing", "bins")  # of `read_samples`


def add_table_arguments(parser: cli.Parser, *, nargs: str | None = None) -> None:
    """The file, --label and flags for TABLE_OPTIONS; with `nargs` "?" the file may be missing."""
    kinds = "a .csv, .tsv, .txt (also .gz, .bz2, .xz), .parquet, .npz or .npy file"
    parser.add_argument("file", type=Path, nargs=nargs, help=kinds)
    data = parser.add_argument_group("data")
    label = "label column of the file (.npy: its number); without it the columns are listed"
    data.add_argument("--label", help=label)
    columns, many = data.add_mutually_exclusive_group(), {"metavar": "NAME", "nargs": "+"}
    features = "columns to use, all if not given (.npy: their numbers; .npz: x0 x1 ...)"
    columns.add_argument("--features", **many, help=features)
    drop = "columns to leave out, such as an id; a column without a name is 'Unnamed: 0'"
    columns.add_argument("--drop", **many, help=drop)
    constant = "leave out constant columns without an error"
    data.add_argument("--drop-constant", action="store_true", help=constant)
    missing = "rows with missing values: leave them out, or fill in medians and add a 0/1 column "
    missing += "that says where (text: a level); an error if not given"
    data.add_argument("--missing", choices=MISSING, help=missing)
    bins = "makes this many classes of a numeric label, by quantiles"
    data.add_argument("--bins", type=cli.positive_int, metavar="N", help=bins)


def add_estimator_arguments(
    parser: cli.Parser, defaults: Settings, *, by_task: tuple[str, ...] = ()
) -> None:
    """A flag for each field of `Settings`; those named in `by_task` are None if not given."""
    group = parser.add_argument_group("training")

    def add(name: str, parse: Callable, text: str, **options) -> None:
        default = None if name in by_task else getattr(defaults, name)
        if default is None:
            by = "task" if name in by_task else "the number of samples"
            text += f" (by {by} if not given)"
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=parse, default=default, help=text, **options)

    add("epochs", cli.positive_int, "passes over the data")
    add("batch_size", cli.positive_int, "samples a step")
    add("lr", cli.positive_float, "(peak) learning rate")
    add("weight_decay", cli.non_negative_float, "weight decay")
    add("members", cli.count_to(1000), "networks whose logits are averaged; auto trains half")
    validation = "share of the training samples that is the validation set: it chooses the epoch "
    validation += "of networks, calibrates classifiers, and gives the weights of auto"
    add("val_fraction", cli.fraction, validation)
    widths = "widths of the hidden layers of networks; images go through a fixed network"
    add("hidden", cli.count_to(100_000), widths, nargs="+", metavar="WIDTH")
    add("k", cli.count_to(10_000), "neighbours of ross, mixed-ksg")
    candidates = "classifiers that auto mixes"
    add("candidates", str, candidates, nargs="+", choices=CANDIDATES, metavar="NAME")


def listed(names: list[str], most: int = 20) -> str:
    """`a, b, c`, shortened past `most` names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
