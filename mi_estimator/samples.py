"""The user's data as tensors: a table with a label column, arrays x and y, or an image set.

Anything that would make an estimate wrong is an error that names the place; nothing is dropped
silently.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_estimator.encoding import encode, far_medians, without_missing
from mi_estimator.labels import binned_codes, class_codes, require_classes
from mi_estimator.names import listed
from mi_estimator.table_files import Columns, read_table, require_table_memory

if TYPE_CHECKING:  # errors of a table must not wait for PyTorch, which is imported where it is used
    from torch import Tensor


DUPLICATE_SHARE = 0.01  # from here on, repeated rows with fractions are a warning


@dataclass(frozen=True)
class Samples:
    """(N, d) float32 features, or (N, C, H, W) images, and (N,) labels 0..K-1.

    Attributes:
        source_columns: the table's column of each feature; those that encode one column share it.
        rows: (N,) position of each sample in the table or image set, or the name of an image file.
        notes: what was changed between the table and the features, in one line each.
        warnings: what may make the estimate too high.
        source: what estimate.json says of images and the backbone that computed the features.
    """

    x: "Tensor"
    y: "Tensor"
    class_names: list[str]
    feature_names: list[str]
    source_columns: list[str]
    rows: np.ndarray
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    source: dict = field(default_factory=dict)

    def print_notes(self, most: int = 20) -> None:
        """Features, the first notes and, on stderr, the warnings."""
        columns = list(dict.fromkeys(self.source_columns))
        print(f"features ({len(columns)}): {listed(columns)}", flush=True)
        more = len(self.notes) - most
        for note in [*self.notes[:most], *([f"... and {more} more"] if more > 0 else [])]:
            print(note, flush=True)
        for warning in self.warnings:
            print(f"warning: {warning}", file=sys.stderr)


def read_samples(
    path: Path,
    label: str | None,
    *,
    features: list[str] | None = None,
    drop: list[str] | None = None,
    **options,
) -> Samples:
    """Reads text tables, Parquet, `.npz` (arrays x and y) or `.npy` (a table).

    `label`, `features` and `drop` are those of `Columns`: numbers for `.npy`; for `.npz`, which
    needs no label, x0, x1, ... Options and errors as `checked_samples`; UserError as `read_table`.
    """
    table = read_table(path, Columns(label, features, drop))
    samples = checked_samples(table.features, table.labels, **options)
    samples.notes[:0] = table.notes
    return samples


def checked_samples(
    features: pd.DataFrame,
    labels: pd.Series,
    *,
    drop_constant: bool = False,
    missing: str | None = None,
    bins: int | None = None,
) -> Samples:
    """Features and labels as tensors; classes are numbered in sorted order.

    Columns become numbers as in `encode`.

    Args:
        drop_constant: leaves out constant columns, which are an error otherwise.
        missing: "drop" leaves out rows with missing values, "indicator" fills in medians and adds a
            0/1 column; None: they are an error.
        bins: makes classes of a numeric label, by quantiles.

    UserError for no samples, lengths that differ, no feature, one that is constant, infinite or
    not encoded, fewer than two classes, or numeric labels that look like a quantity.
    """
    if len(features) != len(labels):
        raise UserError(f"x has {len(features)} samples but y has {len(labels)}")
    if len(features) == 0:
        raise UserError("no samples: the table has no rows")
    if features.shape[1] == 0:
        raise UserError("no feature columns besides the label")
    names = list(map(str, features.columns))
    features = features.set_axis(range(len(names)), axis=1).reset_index(drop=True)
    labels = labels.reset_index(drop=True)
    features, labels, notes = without_missing(features, labels, names, missing)
    if bins is None:
        require_classes(labels)
        codes, class_names = class_codes(labels)
    else:
        codes, class_names = binned_codes(labels, bins)
        classes = zip(class_names, np.bincount(codes), strict=True)
        shown = ", ".join(f"{name} ({count})" for name, count in classes)
        notes.append(f"label in {len(class_names)} bins: {shown}")
    rows = features.index.to_numpy()
    with np.errstate(over="ignore"):  # of a longdouble, which is infinite then
        encoded = encode(features, names)
        require_table_memory("the encoded table", len(rows), len(encoded.names))
        values = np.column_stack(encoded.values).astype(np.float64, copy=False)
    samples = numeric_samples(
        values,
        codes,
        class_names,
        names=encoded.names,
        sources=encoded.sources,
        rows=rows,
        notes=notes + encoded.notes,
        drop_constant=drop_constant,
    )
    columns = zip(encoded.names, encoded.values, strict=True)
    if index_like := [name for name, column in columns if numbers_rows(column)]:
        samples.warnings.insert(
            0,
            f"columns {listed(index_like)} number the rows, as an index or id does; where rows are "
            "or were sorted by the label, they reveal it; leave them out with --drop "
            f"{shlex.join(index_like[:20])}",
        )
    return samples


def numeric_samples(
    values: np.ndarray,
    codes: np.ndarray,
    class_names: list[str],
    *,
    names: list[str],
    sources: list[str],
    rows: np.ndarray,
    notes: list[str],
    drop_constant: bool = False,
) -> Samples:
    """(N, d) float64 values, which change, and (N,) int64 classes as tensors.

    `names` and `sources` are those of the d columns. UserError for columns that are infinite or,
    unless they are left out, constant.
    """
    _require_finite(values, names, rows)
    highest, lowest = values.max(axis=0), values.min(axis=0)
    varies = highest > lowest
    if not varies.all():
        constant = listed([sources[i] for i in np.flatnonzero(~varies)], 10)
        if not (drop_constant and varies.any()):
            raise UserError(f"columns {constant} are constant; remove them or use --drop-constant")
        notes = [*notes, f"left out {(~varies).sum()} constant columns: {constant}"]
        values, highest, lowest = values[:, varies], highest[varies], lowest[varies]
    kept = np.flatnonzero(varies)
    warnings = _repeated_rows(values, codes)
    # float32 cannot represent small differences of large values, such as times, nor values as
    # small as 1e-50.
    values -= far_medians(values)
    spread = highest - lowest
    values /= np.where(spread < 1e-30, spread, 1)
    import torch

    return Samples(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(codes),
        class_names,
        [names[i] for i in kept],
        [sources[i] for i in kept],
        rows,
        notes,
        warnings,
    )


def _require_finite(values: np.ndarray, names: list[str], rows: np.ndarray) -> None:
    wrong, columns = np.nonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(wrong):
        raise UserError(
            f"row {rows[wrong[0]]} (from 0), column {names[columns[0]]}: "
            f"{values[wrong[0], columns[0]]}; correct or remove the {len(np.unique(wrong))} such "
            "rows"
        )


def _repeated_rows(values: np.ndarray, codes: np.ndarray) -> list[str]:
    """A warning if many rows of a table with fractions repeat another row."""
    if not (values != np.floor(values)).any():
        return []
    table = pd.DataFrame(values).assign(label=codes)
    repeated = int(pd.util.hash_pandas_object(table, index=False).duplicated().sum())
    if repeated <= DUPLICATE_SHARE * len(codes):
        return []
    return [
        f"{repeated} of {len(codes)} rows repeat an earlier row, label included; a copy in "
        "a training fold reveals the label; remove repeated rows, unless each is a sample"
    ]


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


def check_folds(y: "Tensor", folds: int, names: list[str] | None = None) -> "Tensor":
    """(K,) counts of the classes; UserError for one fold, or a class with fewer samples than folds.

    The estimator of some fold could not score such a class.
    """
    from mi_common.information import class_counts

    if folds < 2:
        raise UserError(f"--folds {folds}: at least 2")
    counts = class_counts(y, int(y.max()) + 1)
    rare = (counts < folds).nonzero().flatten().tolist()
    if rare:
        shown = ", ".join(f"{names[k] if names else k} ({counts[k]})" for k in rare[:10])
        raise UserError(
            f"classes with fewer samples than --folds {folds}: {shown}; use fewer folds, merge "
            "these classes or remove their samples"
        )
    return counts


def classes_without_validation(counts: "Tensor", folds: int, names: list[str]) -> list[str]:
    """The classes of fewer than three training samples in a fold, of which none is validation."""
    training = counts - (counts + folds - 1) // folds
    return [names[k] for k in (training < 3).nonzero().flatten()]


def known_log_prior(known: list[float], num_classes: int) -> "Tensor":
    """(K,) float64; UserError for a prior of another length, or not positive with sum one."""
    import torch

    if len(known) != num_classes or min(known) <= 0 or not abs(sum(known) - 1) <= 1e-6:
        raise UserError(
            f"--known-prior {' '.join(map(str, known))}: give {num_classes} probabilities above "
            "zero that sum to one, in the sorted order of the classes"
        )
    return torch.tensor(known, dtype=torch.float64).log()
