"""A table's label column as classes 0..K-1: texts or numbers as they are, or numbers in bins."""

from decimal import Decimal, InvalidOperation
from itertools import pairwise

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_estimator.encoding import column_type

MANY_NUMBERS = 20  # more distinct numbers than this may be a quantity, not classes


def class_codes(labels: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(N,) int64 codes and the K names, sorted; by value where all names are numbers.

    Text stays as it is written, so that 01 and 1e0 do not silently become one class.
    """
    labels = _native(labels)
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


def _native(labels: pd.Series) -> pd.Series:
    """Without categories, in this machine's byte order; UserError for missing labels."""
    missing = np.flatnonzero(labels.isna())
    if len(missing):
        raise UserError(
            f"row {missing[0]} (from 0): no label (empty, NA, NaN, None or null); remove the "
            f"{len(missing)} such rows, as --missing drop does, or write the label as another word"
        )
    if isinstance(labels.dtype, pd.CategoricalDtype):
        labels = labels.astype(labels.cat.categories.dtype)
    if isinstance(labels.dtype, np.dtype):
        labels = labels.astype(labels.dtype.newbyteorder("="))
    return labels


def _as_numbers(names: pd.Index) -> list[Decimal]:
    """The exact numbers that the texts represent; empty unless all do."""
    try:
        numbers = [Decimal(name) for name in names if isinstance(name, str) and "_" not in name]
    except InvalidOperation:
        return []
    return numbers if len(numbers) == len(names) and all(n.is_finite() for n in numbers) else []


def require_classes(labels: pd.Series) -> None:
    """UserError for numbers that look like a quantity: many of them, or not whole."""
    if column_type(labels) not in ("number", "text"):
        return
    values = _native(labels).unique()
    if len(values) <= MANY_NUMBERS:
        return
    numbers = pd.to_numeric(pd.Series(values), errors="coerce")
    if numbers.isna().any():
        return
    if len(values) > len(labels) / 10 or (numbers != np.floor(numbers)).any():
        raise UserError(
            f"the label has {len(values)} different numbers in {len(labels)} rows, such as "
            f"{values[0]}; --bins 4 makes four classes of equal size; if each number is a class, "
            "write it as a word, such as c1"
        )


def binned_codes(labels: pd.Series, bins: int) -> tuple[np.ndarray, list[str]]:
    """(N,) int64 codes of quantile bins of a numeric label, and their intervals as names.

    Equal numbers share a bin, so that there may be fewer bins than asked for. UserError for labels
    that are not all finite numbers, or all equal.
    """
    if bins < 2:
        raise UserError(f"--bins {bins}: at least 2")
    numbers = pd.to_numeric(_native(labels), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if len(wrong := np.flatnonzero(~np.isfinite(numbers))):
        row, label = labels.index[wrong[0]], str(labels.iloc[wrong[0]])[:40]
        raise UserError(
            f"--bins {bins}: row {row} (from 0): label {label!r} is no finite number; "
            "correct it, or leave out --bins, so that each value is a class"
        )
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise UserError(f"the label has one value, {distinct[0]}: at least two classes are needed")
    # The upper end of each bin but the last is a label.
    ends = np.quantile(numbers, np.arange(1, bins) / bins, method="inverted_cdf")
    ends = np.unique(np.minimum(ends, distinct[-2]))
    bounds = (distinct[0], *ends, distinct[-1])
    for digits in (6, 17):  # as few as tell them apart
        shown = [f"{end:.{digits}g}" for end in bounds]
        if len(set(shown)) == len(set(bounds)):
            break
    names = [f"({a}, {b}]" for a, b in pairwise(shown)]
    names[0] = f"[{shown[0]}, {shown[1]}]" if shown[0] != shown[1] else shown[0]
    return np.searchsorted(ends, numbers, side="left").astype(np.int64), names
