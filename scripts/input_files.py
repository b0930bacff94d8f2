"""Reads the rows and arrays in `resources/`, with one-line errors."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.files import read_arrays


def read_rows(path: Path, *needed: str) -> pd.DataFrame:
    """The rows of a CSV file with the needed columns.

    UserError for a file that is missing, empty, damaged, or without a column.
    """
    _require_file(path)
    try:
        rows = pd.read_csv(path)
    except ValueError as error:  # of pandas and of Unicode
        raise UserError(f"{path}: no table: {error}; make it again") from error
    if rows.empty:
        raise UserError(f"{path}: no rows; make it again")
    _require_names(path, rows, needed)
    return rows


def read_drawn(path: Path, *needed: str) -> pd.DataFrame | dict[str, np.ndarray]:
    """The rows of a CSV file, or the arrays of an NPZ file, that a figure shows.

    UserError as of `read_rows`, and for a missing value in a needed column or array; where there
    is a `status`, in the rows with `ok`.
    """
    if path.suffix == ".npz":
        _require_file(path)
        values = checked = read_arrays(path)
        _require_names(path, values, needed)
    else:
        values = checked = read_rows(path, *needed)
        if "status" in needed:
            checked = values[values["status"] == "ok"]
    for name in needed:
        if pd.isna(checked[name]).any():
            raise UserError(f"{path}: a missing value in {name}; make it again")
    return values


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; resources/README.md says which command makes it")


def _require_names(path: Path, names: object, needed: tuple[str, ...]) -> None:
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"{path}: no {missing[0]}; it must hold {', '.join(needed)}")
