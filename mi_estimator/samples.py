"""The user's own data: a table of numeric features with a label column, or arrays x and y.

Whatever would make an estimate wrong is an error that names the place; nothing is dropped.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.errors import UserError

READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@dataclass(frozen=True)
class Samples:
    """(N, d) float32 features, or (N, 1, H, W) images, and (N,) labels 0..K-1."""

    x: Tensor
    y: Tensor
    class_names: list[str]
    feature_names: list[str]


def read_samples(path: Path, label: str | None, *, drop_constant: bool = False) -> Samples:
    """Reads CSV, Parquet, `.npz` (arrays x and y) or `.npy` (a table, the label's column number).

    Args:
        label: name of the label column; for `.npy` its number; not used for `.npz`.
        drop_constant: leave out features that are constant, and say so.

    Raises:
        UserError: a missing or unreadable file, a missing label column, and all of
            `checked_samples`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                if not {"x", "y"} <= set(arrays):
                    raise UserError(f"{path}: needs arrays x and y, has {', '.join(arrays)}")
                x, y = np.atleast_1d(arrays["x"]), arrays["y"]
            frame = pd.DataFrame(x.reshape(len(x), -1)).rename(columns=lambda c: f"x{c}")
            return checked_samples(frame, pd.Series(y.reshape(-1)), drop_constant=drop_constant)
        if suffix == ".npy":
            frame = pd.DataFrame(np.load(path, allow_pickle=False)).rename(columns=str)
        elif suffix in READERS:
            frame = READERS[suffix](path)
        else:
            raise UserError(f"{path}: use .csv, .parquet, .npz or .npy")
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow (pip install pyarrow)") from error
    except UserError:
        raise
    # pandas' and NumPy's reading errors are ValueErrors, a damaged file may raise any of these
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    frame = frame.rename(columns=str)
    if label is None or label not in frame:
        columns = ", ".join(frame.columns[:20]) + (", ..." if frame.shape[1] > 20 else "")
        raise UserError(f"--label {label}: no such column; the columns are {columns}")
    return checked_samples(frame.drop(columns=label), frame[label], drop_constant=drop_constant)


def checked_samples(
    features: pd.DataFrame, labels: pd.Series, *, drop_constant: bool = False
) -> Samples:
    """Features and labels as tensors; classes are numbered in sorted order.

    Raises:
        UserError: no samples, lengths that differ, no feature, one that is not numeric or
            constant, a value that is missing or infinite, or fewer than two classes.
    """
    if len(features) != len(labels):
        raise UserError(f"x has {len(features)} samples but y has {len(labels)}")
    if len(features) == 0:
        raise UserError("no samples: the file is empty")
    if features.shape[1] == 0:
        raise UserError("no feature columns beside the label")
    wrong = [c for c in features if not pd.api.types.is_numeric_dtype(features[c])]
    if wrong:
        raise UserError(f"columns {', '.join(wrong[:10])} are not numeric; encode or remove them")
    values = features.to_numpy(dtype=np.float64)
    rows, columns = np.nonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(rows):
        raise UserError(
            f"row {rows[0]} (from 0), column {features.columns[columns[0]]}: "
            f"{values[rows[0], columns[0]]}; fill in or remove the {len(np.unique(rows))} such rows"
        )
    missing = np.flatnonzero(labels.isna())
    if len(missing):
        raise UserError(f"row {missing[0]} (from 0): no label; remove the {len(missing)} such rows")
    varies = np.ptp(values, axis=0) > 0
    if not varies.all():
        constant = ", ".join(features.columns[~varies][:10])
        if not (drop_constant and varies.any()):
            raise UserError(f"columns {constant} are constant; remove them or use --drop-constant")
        print(f"leaving out {(~varies).sum()} constant columns: {constant}")
        features, values = features.loc[:, varies], values[:, varies]
    # float32 cannot tell apart values that differ little beside their size, such as times.
    far = np.ptp(values, axis=0) < 1e-3 * np.abs(values).max(axis=0)
    values = values - np.where(far, values.mean(axis=0), 0)
    codes, names = pd.factorize(labels, sort=True)
    if len(names) < 2:
        raise UserError(f"the label has one value, {names[0]}: at least two classes are needed")
    return Samples(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(codes.astype(np.int64)),
        [str(name) for name in names],
        list(features.columns),
    )
