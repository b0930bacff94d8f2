"""Files of logits, as the docstring of `pc_softmax.adjust` describes them."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.annotation_lines import brief
from mi_common.errors import UserError
from mi_common.files import read_arrays, save_arrays
from pc_softmax.predictions import Predictions
from pc_softmax.priors import normalised_log, read_class_numbers

SPLIT = "logits"  # the name of the samples among the tests of `Predictions`


@dataclasses.dataclass(frozen=True)
class Logits:
    """The content of one file.

    Attributes:
        values: (N, K) float64, as they stand there.
        labels: (N,) int64 in 0..K-1, or None.
        class_names: K names; the numbers 0..K-1 if the file has none.
        files: N names of the samples, or None.
        more: further arrays of an `.npz` file by name.
    """

    values: np.ndarray
    labels: np.ndarray | None
    class_names: list[str]
    files: list[str] | None = None
    more: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def read_logits(path: Path) -> Logits:
    """An `.npz` or `.csv` file of logits; UserError if it is missing or holds something else."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    readers = {".npz": _from_npz, ".csv": _from_csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: use a file that ends in .npz or .csv")
    logits = readers[path.suffix.lower()](path)
    if min(logits.values.shape) < 1 or logits.values.shape[1] < 2:
        rows, columns = logits.values.shape
        raise UserError(f"{path}: {rows} samples of {columns} classes; give one or more of two")
    return logits


def _from_npz(path: Path) -> Logits:
    arrays = read_arrays(path)
    if "logits" not in arrays:
        raise UserError(f"{path}: no array 'logits' but {', '.join(sorted(arrays)) or 'none'}")
    values = checked_values(arrays.pop("logits"), f"{path}: logits")
    names = arrays.pop("class_names", np.arange(values.shape[1]).astype(str))
    if names.shape != values.shape[1:] or names.dtype.kind != "U":
        raise UserError(f"{path}: class_names must be {values.shape[1]} texts")
    files = arrays.pop("files", None)
    if files is not None and (files.shape != values.shape[:1] or files.dtype.kind != "U"):
        raise UserError(f"{path}: files must be {len(values)} texts")
    labels = arrays.pop("labels", None)
    if labels is not None:
        labels = checked_labels(labels, len(values), values.shape[1], f"{path}: labels")
    files = None if files is None else files.tolist()
    return Logits(values, labels, names.tolist(), files, arrays)


def _from_csv(path: Path) -> Logits:
    options = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        header = pd.read_csv(path, header=None, nrows=1, **options).iloc[0]
        frame = pd.read_csv(path, **options)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{path}: cannot be read as CSV ({type(error).__name__})") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first cells as row names
        raise UserError(f"{path}: rows have more cells than the header; name every column")
    if header.duplicated().any():
        raise UserError(
            f"{path}: two columns are named {brief(header[header.duplicated()].iloc[0])!r}"
        )
    numbers = pd.to_numeric(header, errors="coerce").dropna()
    if (numbers % 1 != 0).any():
        raise UserError(f"{path}: the first row holds numbers; it must hold the names of classes")
    texts = {name: frame.pop(name) for name in ("file", "label") if name in frame}
    names = [str(name) for name in frame.columns]
    try:
        values = frame.to_numpy(dtype=np.float64)
    except ValueError:
        numeric = frame.apply(pd.to_numeric, errors="coerce")
        row, column = np.argwhere(numeric.isna().to_numpy())[0]
        cell = f"{brief(frame.iloc[row, column])!r} in column {brief(names[column])!r}"
        raise UserError(f"{path}: row {row + 1} has {cell}; give a number") from None
    values = checked_values(values, f"{path}: logits")
    labels = None
    if "label" in texts:
        labels = _label_numbers(texts["label"], names, path)
    files = texts["file"].tolist() if "file" in texts else None
    return Logits(values, labels, names, files)


def _label_numbers(texts: pd.Series, names: list[str], path: Path) -> np.ndarray:
    """Names of classes, or numbers from 0 if a text is no name of a class."""
    position = {name: k for k, name in enumerate(names)}
    if set(texts) <= position.keys():
        return texts.map(position).to_numpy(dtype=np.int64)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.isna().any():
        wrong = next(text for text in texts if text not in position)
        raise UserError(f"{path}: label {brief(wrong)!r} is no class; classes: {brief(str(names))}")
    return checked_labels(numbers.to_numpy(), len(texts), len(names), f"{path}: column label")


def checked_values(values: np.ndarray, where: str) -> np.ndarray:
    """(N, K) float64; UserError for another number of axes, texts, and values not finite."""
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise UserError(f"{where} are {values.dtype} {values.shape}; give (N, K) numbers")
    if wrong := (~np.isfinite(values)).any(axis=1).sum():
        raise UserError(
            f"{where}: {wrong} of {len(values)} samples have values that are not finite"
        )
    return values.astype(np.float64)


def checked_labels(values: np.ndarray, count: int, num_classes: int, where: str) -> np.ndarray:
    """(N,) int64 class numbers; UserError for another shape, a fraction or a number outside."""
    whole = values.dtype.kind in "iuf" and np.array_equal(values, np.floor(values))
    if values.shape != (count,) or not whole:
        raise UserError(f"{where}: {values.dtype} {values.shape}; give {count} whole numbers")
    if values.min() < 0 or values.max() >= num_classes:
        wrong = values.min() if values.min() < 0 else values.max()
        raise UserError(f"{where}: {wrong:g} is no class; use 0 to {num_classes - 1}")
    return values.astype(np.int64)


def read_counts(words: list[str], class_names: list[str]) -> np.ndarray:
    """(K,) training samples of each class: K numbers, or a file of `read_class_numbers`.

    UserError for other numbers than K whole ones above zero.
    """
    source = " ".join(words)
    if len(words) == 1 and os.path.isfile(words[0]):
        words = read_class_numbers(Path(source), "count", class_names)
    try:
        counts = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        counts = np.zeros(0, np.int64)
    if len(counts) != len(class_names) or (counts < 1).any():
        raise UserError(
            f"--train-counts {brief(source)}: give {len(class_names)} whole numbers above 0, or a "
            "file with one a line or with the header class,count"
        )
    return counts


def to_predictions(
    logits: Logits, *, kind: str | None, counts: np.ndarray | None, validation: Logits | None
) -> Predictions:
    """Logits with all that the estimators of class priors need.

    Args:
        kind: what the logits hold, "softmax" or "pc-softmax"; None follows the array
            `logit_log_prior` of the file, and is "softmax" without it.
        counts: (K,) training samples; None takes those of the file, else the numbers of validation
            samples.

    UserError if there are none, and for a validation file without labels or of other classes.
    """
    num_classes, more = len(logits.class_names), logits.more
    if validation is None and {"validation_logits", "validation_labels"} <= more.keys():
        values = checked_values(more["validation_logits"], "validation_logits")
        if values.shape[1:] != (num_classes,):
            raise UserError(f"validation_logits: {values.shape}; give (M, {num_classes}) numbers")
        labels = checked_labels(
            more["validation_labels"], len(values), num_classes, "validation_labels"
        )
        validation = Logits(values, labels, logits.class_names)
    if validation is not None:
        if validation.labels is None:
            raise UserError("--validation: the file has no labels; add them")
        if validation.class_names != logits.class_names:
            raise UserError("--validation: its classes are not those of the logits")
    if counts is None and "counts" in more:
        counts = read_counts(list(map(str, more["counts"].tolist())), logits.class_names)
    if counts is None and validation is not None:
        counts = np.bincount(validation.labels, minlength=num_classes)
        if (counts == 0).any():
            name = logits.class_names[int(counts.argmin())]
            raise UserError(f"--validation: no sample of class {name!r}; give --train-counts")
    if counts is None:
        raise UserError("the training prior is unknown; give --train-counts or --validation")
    log_prior = normalised_log(counts)
    uniform = normalised_log(np.ones(num_classes))
    known = {"softmax": log_prior, "pc-softmax": uniform}
    logit_log_prior = more.get("logit_log_prior", log_prior) if kind is None else known[kind]
    labels = np.zeros(len(logits.values), np.int64) if logits.labels is None else logits.labels
    return Predictions(
        log_prior=log_prior,
        counts=counts,
        logit_log_prior=logit_log_prior,
        class_names=logits.class_names,
        tests={SPLIT: (logits.values, labels)},
        validation=None if validation is None else (validation.values, validation.labels),
        from_run=False,
    )


def write_logits(
    predictions: Predictions, logits: np.ndarray, files: list[str], path: Path
) -> None:
    """The (N, K) logits as the network gives them, with all that `pc_softmax.adjust` needs."""
    arrays = {
        "logits": logits,
        "files": files,
        "class_names": predictions.class_names,
        "counts": predictions.counts,
        "logit_log_prior": predictions.logit_log_prior,
    }
    if predictions.validation is not None:
        names = ("validation_logits", "validation_labels")
        arrays |= dict(zip(names, predictions.validation, strict=True))
    save_arrays(path, **arrays)
