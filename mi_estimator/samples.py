"""The user's data as tensors: a table with a label column, arrays x and y, or an image set.

Anything that would make an estimate wrong is an error that names the place; nothing is dropped
silently.
"""

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_estimator.names import listed
from mi_estimator.table_files import Columns, read_table

if TYPE_CHECKING:  # errors of a table must not wait for PyTorch, which is imported where it is used
    from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """(N, d) float32 features, or (N, C, H, W) images, and (N,) labels 0..K-1.

    `source_columns` holds the table's column of each feature; the features that encode one column
    share it. `index_like` holds the names of features that number the rows; see `numbers_rows`.
    """

    x: "Tensor"
    y: "Tensor"
    class_names: list[str]
    feature_names: list[str]
    source_columns: list[str]
    index_like: list[str] = field(default_factory=list)


def read_samples(
    path: Path,
    label: str | None,
    *,
    features: list[str] | None = None,
    drop: list[str] | None = None,
    drop_constant: bool = False,
) -> Samples:
    """Reads CSV, Parquet, `.npz` (arrays x and y) or `.npy` (a table).

    `label`, `features` and `drop` are those of `Columns`: numbers for `.npy`; for `.npz`, which
    needs no label, x0, x1, ... With `drop_constant`, constant features are left out and their names
    printed. UserError as `read_table` and `checked_samples`.
    """
    table, labels = read_table(path, Columns(label, features, drop))
    return checked_samples(table, labels, drop_constant=drop_constant)


def image_samples(dataset: str, data_dir: Path, limit: int | None) -> Samples:
    """The training images of an image set, or the first `limit` of them."""
    from mi_common.datasets import image_tensors

    image_set = image_tensors(dataset, data_dir, "train")
    images, labels = image_set.images[:limit], image_set.labels[:limit]
    class_names = image_set.class_names[: int(labels.max()) + 1]
    return Samples(images, labels, class_names, ["image"], ["image"])


def checked_samples(
    features: pd.DataFrame, labels: pd.Series, *, drop_constant: bool = False
) -> Samples:
    """Features and labels as tensors; classes are numbered in sorted order.

    UserError for no samples, lengths that differ, no feature, one that is not numeric or constant,
    a value that is missing or infinite, or fewer than two classes.
    """
    if len(features) != len(labels):
        raise UserError(f"x has {len(features)} samples but y has {len(labels)}")
    if len(features) == 0:
        raise UserError("no samples: the file is empty")
    if features.shape[1] == 0:
        raise UserError("no feature columns besides the label")
    names = list(map(str, features.columns))
    features = features.set_axis(range(len(names)), axis=1)
    _require_real_numbers(features, names)
    with np.errstate(over="ignore"):  # of a longdouble, which is infinite then
        values = features.to_numpy(dtype=np.float64, na_value=np.nan)
    rows, columns = np.nonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(rows):
        raise UserError(
            f"row {rows[0]} (from 0), column {names[columns[0]]}: "
            f"{values[rows[0], columns[0]]}; fill in or remove the {len(np.unique(rows))} such rows"
        )
    codes, class_names = class_codes(labels)
    spread = np.ptp(values, axis=0)
    if not spread.all():
        constant = listed([names[i] for i in np.flatnonzero(spread == 0)], 10)
        if not (drop_constant and spread.any()):
            raise UserError(f"columns {constant} are constant; remove them or use --drop-constant")
        print(f"leaving out {(spread == 0).sum()} constant columns: {constant}")
    kept = np.flatnonzero(spread)
    values, spread = values[:, kept], spread[kept]
    # float32 cannot represent small differences of large values, such as times, nor values as
    # small as 1e-50.
    far = spread < 1e-3 * np.abs(values).max(axis=0)
    values = values - np.where(far, values.mean(axis=0), 0)
    values = values / np.where(spread < 1e-30, spread, 1)
    import torch

    return Samples(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(codes),
        class_names,
        [names[i] for i in kept],
        [names[i] for i in kept],
        [names[i] for i in kept if numbers_rows(features[i].to_numpy())],
    )


def _require_real_numbers(features: pd.DataFrame, names: list[str]) -> None:
    types = list(enumerate(features.dtypes))
    if wrong := [i for i, dtype in types if pd.api.types.is_complex_dtype(dtype)]:
        columns = listed([names[i] for i in wrong], 10)
        raise UserError(
            f"columns {columns} are complex; give real and imaginary part as a column each"
        )
    if wrong := [i for i, dtype in types if not pd.api.types.is_numeric_dtype(dtype)]:
        text = features[wrong[0]].dropna().astype(str)
        text = [*text[pd.to_numeric(text, errors="coerce").isna()], *text, ""]
        raise UserError(
            f"columns {listed([names[i] for i in wrong], 10)} are not numeric, such as "
            f"{text[0][:40]!r}; encode them, or leave them out with --drop"
        )


def class_codes(labels: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(N,) int64 codes and the K names, sorted; by value where all names are numbers.

    Text stays as it is written, so that 01 and 1e0 do not silently become one class.
    """
    missing = np.flatnonzero(labels.isna())
    if len(missing):
        raise UserError(
            f"row {missing[0]} (from 0): no label (empty, NA, NaN, None or null); remove the "
            f"{len(missing)} such rows, or write the label as another word"
        )
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype(labels.cat.categories.dtype)
    if isinstance(labels.dtype, np.dtype):
        labels = labels.astype(labels.dtype.newbyteorder("="))
    try:
        if pd.api.types.is_complex_dtype(labels.dtype):
            raise TypeError
        codes, names = pd.factorize(labels, sort=True)
    except (TypeError, ValueError) as error:
        # Lists cannot be compared, nor text sorted with dates.
        raise UserError("the labels must all be real numbers, or all text") from error
    if len(names) < 2:
        raise UserError(f"the label has one value, {names[0]}: at least two classes are needed")
    if numbers := _as_numbers(names):
        order = sorted(range(len(names)), key=numbers.__getitem__)
        for i, j in pairwise(order):
            if numbers[i] == numbers[j]:
                raise UserError(
                    f"labels {names[i]!r} and {names[j]!r} are one number; write it in one way"
                )
        codes, names = np.argsort(order)[codes], [names[i] for i in order]
    return codes.astype(np.int64), list(map(str, names))


def _as_numbers(names: pd.Index) -> list[Decimal]:
    """The exact numbers that the texts represent; empty unless all do."""
    try:
        numbers = [Decimal(name) for name in names if isinstance(name, str) and "_" not in name]
    except InvalidOperation:
        return []
    return numbers if len(numbers) == len(names) and all(n.is_finite() for n in numbers) else []


def numbers_rows(column: np.ndarray) -> bool:
    """Whether (N,) numbers are unique, whole, and sorted or without a gap, like an index or id.

    Such a column reveals the label of a file whose rows are, or were, sorted by it.
    """
    if column.dtype.kind not in "iuf" or not (column == np.floor(column)).all():
        return False
    first, later = column[:-1], column[1:]
    if (later > first).all() or (later < first).all():
        return True
    gapless = int(column.max()) - int(column.min()) + 1 == len(column)
    return gapless and len(np.unique(column)) == len(column)


def known_log_prior(known: list[float], num_classes: int) -> "Tensor":
    """(K,) float64; UserError for a prior of another length, or not positive with sum one."""
    import torch

    if len(known) != num_classes or min(known) <= 0 or not abs(sum(known) - 1) <= 1e-6:
        raise UserError(
            f"--known-prior {' '.join(map(str, known))}: give {num_classes} probabilities above "
            "zero that sum to one, in the sorted order of the classes"
        )
    return torch.tensor(known, dtype=torch.float64).log()
