"""Reads the files that `scripts.figures` draws, with one-line errors."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.files import read_arrays


def read_input(path: Path, *needed: str) -> pd.DataFrame | dict[str, np.ndarray]:
    """The rows of a CSV file, or the arrays of an NPZ file, with the needed columns or arrays.

    UserError for a file that is missing, empty, damaged, or without a column or array.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; resources/README.md says which command makes it")
    if path.suffix == ".npz":
        values = read_arrays(path)
    else:
        try:
            values = pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: no table: {error}; make it again") from error
        if values.empty:
            raise UserError(f"{path}: no rows; make it again")
    if missing := [name for name in needed if name not in values]:
        raise UserError(f"{path}: no {missing[0]}; it must hold {', '.join(needed)}")
    return values
