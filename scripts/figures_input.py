"""Reads the files that `scripts.figures` draws, with one-line errors."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.files import read_arrays

COLUMNS = {  # that a figure needs
    "mi_estimator.csv": "task estimator estimate truth",
    "mi_hard.csv": "task estimator n_train estimate truth status",
    "pc_softmax_classes.csv": "test_set loss rule seed class train_count accuracy",
    "infocam_thresholds.csv": "optimizer method threshold gt_known",
    "infocam_tiny_imagenet.csv": "optimizer map protocol seed method region_rule threshold_rule "
    "threshold gt_known",
    "infocam_common_part.csv": "head factor map_share gain gain_low gain_high",
}
ARRAYS = ("pictures", "labels", "truths", "methods", "maps", "boxes", "overlaps")


def read_input(path: Path) -> pd.DataFrame | dict[str, np.ndarray]:
    """The rows of a CSV file, or the arrays of an NPZ file, of `resources/`.

    UserError for a file that is missing, empty, damaged, or without a column or array.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; resources/README.md says which command makes it")
    if path.suffix == ".npz":
        values, needed = read_arrays(path), ARRAYS
    else:
        needed = COLUMNS[path.name].split()
        try:
            values = pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: no table: {error}; make it again") from error
        if values.empty:
            raise UserError(f"{path}: no rows; make it again")
    if missing := [name for name in needed if name not in values]:
        raise UserError(f"{path}: no {missing[0]}; it must hold {', '.join(needed)}")
    return values
