"""What the report shows of each experiment, and the files that it reads."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.files import damaged_file
from scripts import report_findings
from scripts.report_findings import Finding

MAX_BYTES = 50_000_000  # of a file


@dataclass(frozen=True)
class Section:
    """An experiment on the page. Files are in `folder`, which is in the folder of the runs."""

    key: str  # of links to it
    link: str
    title: str
    text: str
    folder: str
    next_steps: str  # commands
    findings: Callable[[Path], list[Finding]] = lambda folder: []
    tables: tuple[tuple[str, str], ...] = ()  # file and caption
    figure: tuple[str, str] | None = None  # PNG, which may have an SVG beside it, and caption
    gallery: str | None = None  # folder with the arrays of pictures


def checked_file(path: Path) -> Path:
    """The path of a file, if it is there and small enough; otherwise UserError."""
    if not path.is_file():
        raise UserError(f"{path}: not found; run the experiment again, or give another folder")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{path}: {size:,} bytes, more than {MAX_BYTES:,}")
    return path


def read_rows(path: Path, *, text: tuple[str, ...] = (), numbers: tuple[str, ...]) -> pd.DataFrame:
    """A CSV file with at least these columns; UserError for any other or a damaged file."""
    checked_file(path)
    try:
        rows = pd.read_csv(path)
    except ValueError as error:  # of pandas and of Unicode
        raise damaged_file(path) from error
    if missing := [name for name in (*text, *numbers) if name not in rows]:
        raise UserError(f"{path}: no column {missing[0]!r}; run the experiment again")
    if rows.empty or rows[list(text)].isna().any(axis=None):
        raise damaged_file(path)
    _require_numbers(path, rows, numbers)
    return rows


def _require_numbers(path: Path, rows: pd.DataFrame, names: tuple[str, ...]) -> None:
    values = rows[list(names)]
    numeric = all(map(pd.api.types.is_numeric_dtype, values.dtypes))
    if not numeric or not np.isfinite(values).all(axis=None):
        raise damaged_file(path)


@contextlib.contextmanager
def _name_files(files: Path | str) -> Iterator[None]:
    """Errors about rows that the findings need become UserErrors that name their files."""
    try:
        yield
    except (KeyError, IndexError, ValueError) as error:  # of pandas, and UserErrors of tables
        known = isinstance(error, UserError)
        problem = str(error) if known else "rows are missing for the findings"
        raise UserError(f"{files}: {problem}; run the experiment again") from error


def _information_findings(folder: Path) -> list[Finding]:
    from mi_estimator.tasks.suites import SUITES

    path = folder / "results.csv"
    rows = read_rows(path, text=("task", "estimator", "status"), numbers=("seed", "truth"))
    rows = rows[rows["status"] == "ok"]
    _require_numbers(path, rows, ("estimate",))
    with _name_files(path):
        distributions = {task: SUITES["paper"][task].distribution for task in set(rows["task"])}
        labels = {task: (d.label_entropy, d.num_classes) for task, d in distributions.items()}
        return report_findings.of_information(rows, labels)


def _imbalance_findings(folder: Path) -> list[Finding]:
    text, numbers = ("test_set", "loss", "rule"), ("seed", "balanced_accuracy")
    path = folder / "results.csv"
    rows = read_rows(path, text=text, numbers=numbers)
    with _name_files(path):
        return report_findings.of_imbalance(rows)


def _localisation_findings(folder: Path) -> list[Finding]:
    text = ("method", "region_rule", "threshold_rule")
    numbers = ("gt_known", "gt_known_low", "gt_known_high")
    rows = read_rows(folder / "results.csv", text=text, numbers=numbers)
    differences = read_rows(folder / "differences.csv", text=text, numbers=("n", *numbers))
    with _name_files(f"{folder / 'results.csv'} or differences.csv"):
        return report_findings.of_localisation(rows, differences)


SECTIONS = (
    Section(
        "information",
        "Mutual information",
        "Mutual information, estimated and exact",
        "Classifiers trained on samples of Gaussian classes and scored on new samples, in nats. "
        "The oracle averages the exact log density ratio over the same samples: its error is the "
        "sampling error. H(Y), the entropy of the label, is the largest value possible.",
        "mi_estimator",
        """# mutual information of a label and the other columns of your own table
python -m mi_estimator.estimate TABLE.csv --label COLUMN
# what each column says about it
python -m mi_estimator.rank TABLE.csv --label COLUMN""",
        _information_findings,
        (("table.md", "Estimates in nats, mean ± half of the 95 % interval over seeds"),),
        ("estimates.png", "Estimates and exact values of each task; below, their differences"),
    ),
    Section(
        "imbalance",
        "Imbalanced classes",
        "PC-softmax on imbalanced MNIST",
        "Training set: 3,000 images of each odd digit, 300 of each even one. Balanced accuracy is "
        "the mean of the accuracies of the classes. The paper's window is a part of the training "
        "file, imbalanced too; the official test set is balanced.",
        "pc_softmax",
        """# your own pictures, in a folder for each class
python -m pc_softmax.train --dataset folder --data-dir PICTURES
# more losses
python -m pc_softmax.compare --losses softmax pc-softmax ldam-drw crt""",
        _imbalance_findings,
        (
            ("table.md", "Percent, mean ± half of the 95 % interval over seeds"),
            ("differences.md", "Paired differences in points, seed by seed; Holm's p-values"),
        ),
        ("per_class.png", "Accuracy of each class; bars span the seeds"),
    ),
    Section(
        "localisation",
        "Boxes",
        "infoCAM: boxes of digits, learned from labels alone",
        "A small network learns to classify digits on a canvas; its maps say where the digit is. "
        "A box hits if its overlap with the true box (IoU) is at least 0.5. GT-known: boxes of the "
        "true label's map; top-1: the network must also name that label.",
        "infocam/evaluation",
        """# Tiny-ImageNet, where the archive has been downloaded
bash scripts/reproduce_infocam.sh""",
        _localisation_findings,
        (
            ("table.md", "Percent of the test images (95 % bootstrap interval)"),
            ("differences.md", "Paired differences in points over the images"),
        ),
        ("threshold_curves.png", "Share of boxes that hit at each threshold of the map"),
        "overlays",
    ),
    Section(
        "photographs",
        "Photographs",
        "Where the evidence is in photographs",
        "EfficientNet-Lite0, trained on ImageNet's 1,000 classes without boxes. The photographs "
        "come with scikit-learn (china.jpg by danielbuechele, flower.jpg by vultilion, both on "
        "flickr, licence CC BY 2.0); maps and boxes are drawn over them.",
        "explain",
        """# a photograph of your own: why this class, and not the next likely one
python -m infocam.explain PHOTO.jpg --top 2""",
        gallery=".",
    ),
)
