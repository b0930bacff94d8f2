"""From the columns of a table to numbers: booleans, text, categories, dates and missing values.

Numbers stay as they are. Text and `category` columns become one 0/1 column a level, dates a number
of days. Whatever could be read in two ways is an error that names the column.
"""

import re
import shlex
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_estimator.names import MISSING, listed

MAX_LEVELS = 20
NEARLY_ALL = 0.9  # from this share of numbers or dates on, other cells are errors, not levels
EPOCH, DAY = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=1)
ISO_DATE = re.compile(
    r"\s*\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?\s*", re.ASCII
)
COMMA_NUMBER = re.compile(r"\s*[+-]?[\d.]*,[\d.,]*\d([eE][+-]?\d+)?\s*", re.ASCII)
# What pandas finds in a column, by the word that messages use.
TYPES = {
    "number": ("integer", "floating", "mixed-integer-float", "decimal"),
    "boolean": ("boolean",),
    "date": ("date", "datetime", "datetime64"),
    "duration": ("timedelta", "timedelta64"),
    "text": ("string", "empty"),
    "category": ("categorical",),
    "complex number": ("complex",),
}
TYPE_OF = {name: word for word, names in TYPES.items() for name in names}


@dataclass
class EncodedColumns:
    """(N,) real arrays, with a name each and the table's column that each comes from.

    `notes` says in one line each what was changed.
    """

    values: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, values: np.ndarray, name: str, source: str) -> None:
        self.values.append(values)
        self.names.append(name)
        self.sources.append(source)


def column_type(column: pd.Series) -> str:
    """A word of `TYPES`, or "other"."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(column.dtype):
        return "boolean"
    if pd.api.types.is_complex_dtype(column.dtype):
        return "complex number"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    return TYPE_OF.get(pd.api.types.infer_dtype(column, skipna=True), "other")


def without_missing(
    features: pd.DataFrame, labels: pd.Series, names: list[str], missing: str | None
) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """The rows to use, and a note for each change.

    With `missing` "drop", rows with a missing feature or label are left out. "indicator" keeps
    them for `encode`. UserError for missing features if `missing` is None, for another word, and
    for a column without any value.
    """
    if missing is not None and missing not in MISSING:
        raise UserError(f"missing {missing!r}: use {' or '.join(MISSING)}")
    counts = features.isna().sum().to_numpy()
    if len(empty := np.flatnonzero(counts == len(features))):
        empty = [names[i] for i in empty]
        raise UserError(
            f"columns {listed(empty, 10)} hold no value; leave them out with --drop "
            f"{shlex.join(empty[:10])}"
        )
    if missing == "drop":
        complete = ~(features.isna().any(axis=1) | labels.isna()).to_numpy()
        if complete.all():
            return features, labels, []
        if not complete.any():
            raise UserError("no row is complete; use --missing indicator, or --drop some columns")
        note = f"left out {(~complete).sum()} of {len(complete)} rows with missing values"
        return features[complete], labels[complete], [note]
    if counts.any() and missing is None:
        shown = listed([f"{names[i]} ({counts[i]})" for i in np.flatnonzero(counts)], 5)
        rows = np.flatnonzero(features.isna().any(axis=1))
        raise UserError(
            f"missing values in columns {shown}, first in row {rows[0]} (from 0); --missing drop "
            f"leaves out these {len(rows)} of {len(features)} rows, --missing indicator fills in "
            "medians and adds a 0/1 column for each"
        )
    return features, labels, []


def encode(features: pd.DataFrame, names: list[str]) -> EncodedColumns:
    """All columns as real numbers.

    Columns of `features` are numbered, as `names` are; its index is the row in the user's table. A
    missing number, date or boolean becomes the median, a missing text a level; a 0/1 column
    "NAME is missing" says where. UserError for columns that are neither numbers, booleans, text
    nor dates, for text with more than `MAX_LEVELS` levels, and for text of which nearly all cells,
    but not all, are numbers or dates.
    """
    _require_known_types(features, names)
    encoded, too_many = EncodedColumns(), []
    for i, name in enumerate(names):
        column = features[i]
        kind, numbers = _to_numbers(column, name)
        if numbers is not None:
            _add_numbers(encoded, numbers, name)
            if kind:
                encoded.notes.append(f"{name}: {kind}")
        elif column.nunique() > MAX_LEVELS:
            too_many.append(i)
        elif not too_many:
            _add_levels(encoded, column, name)
    if too_many:
        _refuse_levels(features[too_many], [names[i] for i in too_many])
    return encoded


def _require_known_types(features: pd.DataFrame, names: list[str]) -> None:
    types = [column_type(features[i]) for i in range(len(names))]
    if wrong := [names[i] for i, word in enumerate(types) if word == "complex number"]:
        raise UserError(
            f"columns {listed(wrong, 10)} are complex; give real and imaginary part as a column "
            "each"
        )
    if wrong := [i for i, word in enumerate(types) if word == "other"]:
        shown = str(features[wrong[0]].dropna().iloc[0])[:40]
        wrong = [names[i] for i in wrong]
        raise UserError(
            f"columns {listed(wrong, 10)} are neither numbers, booleans, text nor dates, such as "
            f"{shown!r}; leave them out with --drop {shlex.join(wrong[:10])}"
        )


def _to_numbers(column: pd.Series, name: str) -> tuple[str, pd.Series | None]:
    """How the column was converted, empty if it was not, and its numbers; None for levels."""
    match column_type(column):
        case "number" if column.dtype == object:
            return "", column.where(column.notna(), np.nan).astype(np.float64)
        case "number":
            return "", column
        case "boolean":
            return "1 for true, 0 for false", column.astype("boolean")
        case "date":
            return "days since 1970-01-01", _days(column, name)
        case "duration":
            return "days", pd.to_timedelta(column) / DAY
        case "text":
            return text_as_numbers(column, name)
    return "", None


def text_as_numbers(column: pd.Series, name: str) -> tuple[str, pd.Series | None]:
    """Text of which all cells are numbers or ISO dates, as numbers; None for levels.

    UserError if nearly all, but not all, cells are numbers or dates.
    """
    codes, levels = pd.factorize(column)
    levels = pd.Series(list(map(str, levels)), dtype=object)
    cells = np.bincount(codes[codes >= 0], minlength=len(levels))
    numbers = pd.to_numeric(levels, errors="coerce").astype(np.float64)
    is_date = levels.map(lambda text: ISO_DATE.fullmatch(text) is not None).to_numpy(bool)
    has_comma = levels.map(lambda text: COMMA_NUMBER.fullmatch(text) is not None).to_numpy(bool)
    is_number = numbers.notna().to_numpy()
    if is_date.all():
        kind, values = "days since 1970-01-01", _days(levels, name)
    elif is_number.all():
        kind, values = "numbers, written as text", numbers
    else:
        for word, fits, like in (
            ("number", is_number, is_number | has_comma),
            ("date", is_date, is_date),
        ):
            if cells[like].sum() >= NEARLY_ALL * cells.sum():
                row = np.flatnonzero(~fits[codes] & (codes >= 0))[0]
                cell = levels[codes[row]][:40]
                problem = f"{cell!r} is no {word}, as nearly all cells are; correct it"
                if has_comma[codes[row]]:
                    problem = f"write {cell!r} with a decimal point, without other separators"
                raise UserError(
                    f"row {column.index[row]} (from 0), column {name}: {problem}, or leave the "
                    f"column out with --drop {shlex.quote(name)}"
                )
        return "", None
    values = values.to_numpy(np.float64)
    return kind, pd.Series(np.where(codes >= 0, values[codes], np.nan), column.index)


def _days(dates: pd.Series, name: str) -> pd.Series:
    """Days since 1970, NaN where missing; times without a zone count as UTC."""
    try:
        if pd.api.types.is_datetime64_any_dtype(dates.dtype):
            times = pd.to_datetime(dates, utc=True)
        else:
            texts = dates.map(lambda date: str(date).strip(), na_action="ignore")
            times = pd.to_datetime(texts, utc=True, format="ISO8601")
    except (ValueError, OverflowError) as error:
        raise UserError(f"column {name}: {str(error)[:100]}; correct this date") from error
    return (times - EPOCH) / DAY


def _add_numbers(encoded: EncodedColumns, column: pd.Series, name: str) -> None:
    missing = column.isna().to_numpy()
    if not missing.any():
        dtype = column.to_numpy().dtype if isinstance(column.dtype, np.dtype) else np.float64
        encoded.add(column.to_numpy(dtype), name, name)
        return
    values = column.to_numpy(np.float64, na_value=np.nan)
    known = values[~missing]
    if np.ptp(known) > 0:  # else the 0/1 column says all
        encoded.add(np.where(missing, np.median(known), values), name, name)
    encoded.add(missing, f"{name} is missing", name)
    encoded.notes.append(
        f"{name}: median {np.median(known):.6g} in {missing.sum()} rows where it is missing, "
        "and a column that says where"
    )


def _add_levels(encoded: EncodedColumns, column: pd.Series, name: str) -> None:
    codes, levels = pd.factorize(column, sort=True)
    levels = [" ".join(str(level).split())[:40] for level in levels]
    missing = codes < 0
    shown = levels + ["missing"] * bool(missing.any())
    encoded.notes.append(f"{name}: a 0/1 column for each of {len(shown)} levels: {listed(shown)}")
    if len(shown) == 2:  # one column says which
        encoded.notes[-1] = f"{name}: 1 for {shown[1]}, 0 for {shown[0]}"
    for code in range(len(shown) == 2, len(levels)):
        encoded.add(codes == code, f"{name} = {levels[code]}", name)
    if missing.any():
        encoded.add(missing, f"{name} is missing", name)


def _refuse_levels(columns: pd.DataFrame, names: list[str]) -> None:
    shown = [
        f"{name} ({column.nunique()}, such as {str(column.dropna().iloc[0])[:40]!r})"
        for name, (_, column) in zip(names, columns.items(), strict=True)
    ]
    raise UserError(
        f"more than {MAX_LEVELS} different texts in columns {listed(shown, 5)}; leave them out "
        f"with --drop {shlex.join(names[:20])}; dates must be written as 2020-12-31"
    )


def far_medians(values: np.ndarray) -> np.ndarray:
    """(N, d) float64 -> (d,) medians of columns too far from zero for float32, 0 for the others.

    Such as a pressure of 101,325.01 to 101,325.02, even if it is 0 in a few samples.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    # If most samples share one value, the interquartile range is zero.
    spread = np.where(high > low, high - low, np.ptp(values, axis=0))
    return np.where(spread < 1e-3 * np.abs(middle), middle, 0.0)
