"""Tables in text, Parquet, `.npy` and `.npz` files: the columns that are read, and refused tables.

A column without a name is usually a row index, and an index reveals the label where rows are sorted
by it. A repeated name would put values into the wrong column. Sizes are checked before memory is
allocated.
"""

import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError, require_memory
from mi_estimator.encoding import column_type
from mi_estimator.names import listed
from mi_estimator.text_files import COMPRESSIONS, read_text_table

# Names that pandas and Parquet give to a column, or an index, without a name.
UNNAMED = re.compile(r"Unnamed: \d+(_level_\d+)?|__index_level_\d+__|")
# At the peak: three float64 copies, one float32, and pandas' overhead.
BYTES_PER_CELL, BYTES_PER_COLUMN = 32, 300
HEADERS = {  # version 3 differs from 2 in the names of fields only
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Columns:
    """The flags that choose columns by name; without `features`, all but the label are used."""

    label: str | None
    features: list[str] | None = None
    drop: list[str] | None = None

    def of_table(self, names: list[str], where: str) -> list[int]:
        """Positions of the features, in the file's order, and of the label, which comes last.

        Without a label, all columns. UserError for no such label or two of them; as `of_features`.
        """
        if self.label is None:
            return list(range(len(names)))
        if self.label not in names:
            columns = listed(names)
            raise UserError(f"--label {self.label}: no such column; the columns are {columns}")
        if names.count(self.label) > 1:
            raise UserError(f"{where}: {names.count(self.label)} columns are named {self.label}")
        return [*self.of_features(names, where), names.index(self.label)]

    def of_features(self, names: list[str], where: str) -> list[int]:
        """Positions of the features, in the file's order.

        UserError for a flag that names an unknown column or the label, and for a feature without a
        name, or with the name of another feature.
        """
        known = set(names)
        for flag, given in (("--features", self.features), ("--drop", self.drop)):
            for name in given or []:
                if name == self.label:
                    raise UserError(f"{flag} {name}: this is the label, which is no feature")
                if name not in known:
                    columns = listed(names)
                    raise UserError(f"{flag} {name}: no such column; the columns are {columns}")
        kept = (known if self.features is None else set(self.features)) - set(self.drop or [])
        positions = [i for i, name in enumerate(names) if name in kept and name != self.label]
        features = [names[i] for i in positions]
        if unnamed := [name for name in features if UNNAMED.fullmatch(name)]:
            raise UserError(
                f"{where}: column {unnamed[0]!r} has no name, like a row index, which reveals the "
                f"label where rows are sorted by it; leave it out with --drop {unnamed[0]!r}, or "
                "name it"
            )
        name, count = max(Counter(features).items(), key=itemgetter(1), default=("", 0))
        if count > 1:
            raise UserError(
                f"{where}: {count} columns are named {name}; rename them, or leave them out with "
                f"--drop {name!r}"
            )
        return positions


@dataclass(frozen=True)
class Table:
    """Features and labels as they are written; `notes` says what reading has changed."""

    features: pd.DataFrame
    labels: pd.Series
    notes: list[str] = field(default_factory=list)


def read_table(path: Path, columns: Columns) -> Table:
    """Features and labels of a file, as they are written.

    UserError for a file that is missing, damaged, in another format or too large, and for a missing
    `label`, with a list of the columns; as `Columns`.
    """
    if path.is_dir():
        raise UserError(
            f"{path}: is a folder; give a file, or with --dataset folder --data-dir one of images"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    read = READERS.get("".join(path.suffixes[-2:]).lower()) or READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(
            f"{path}: use .csv, .tsv or .txt, also with .gz, .bz2 or .xz, or .parquet, .npz, .npy"
        )
    try:
        return read(path, columns)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow (pip install pyarrow)") from error
    except Exception as error:  # readers raise many kinds of error on damaged files
        reason = str(error)[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read: {reason}") from error


def _split(table: pd.DataFrame, columns: Columns, notes: list[str] | None = None) -> Table:
    """The label comes last. UserError without `columns.label`."""
    if columns.label is None:
        raise UserError(f"--label is missing; the columns are {_described(table)}")
    return Table(table.iloc[:, :-1], table.iloc[:, -1], notes or [])


def _described(table: pd.DataFrame, most: int = 20) -> str:
    """Name, type and number of distinct values of each column, of the first `most` columns."""
    shown = []
    for i, name in enumerate(table.columns[:most]):
        kind = column_type(table.iloc[:, i])
        distinct = f", {table.iloc[:, i].nunique()} distinct" if kind != "other" else ""
        shown.append(f"{name} ({kind}{distinct})")
    more = len(table.columns) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def _read_text(path: Path, columns: Columns) -> Table:
    check_memory = partial(require_table_memory, path)
    table, notes = read_text_table(path, columns.of_table, columns.label, check_memory)
    return _split(table, columns, notes)


def _read_parquet(path: Path, columns: Columns) -> Table:
    import pyarrow.parquet

    # Checksums are optional in Parquet.
    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        require_table_memory(path, file.metadata.num_rows, file.metadata.num_columns)
        table = file.read()
    table.validate(full=True)  # text that is not UTF-8 would fail where it is first used
    frame = table.to_pandas()
    names = list(map(str, frame.columns))
    positions = columns.of_table(names, str(path))
    frame = frame.iloc[:, positions].set_axis([names[i] for i in positions], axis=1)
    return _split(frame, columns)


def _read_npy(path: Path, columns: Columns) -> Table:
    table = _read_array(str(path), partial(path.open, "rb"), path.stat().st_size)
    if table.ndim != 2:
        raise UserError(f"{path}: shape {table.shape}; a table has two axes, samples and columns")
    names = list(map(str, range(table.shape[1])))
    positions = columns.of_table(names, str(path))
    frame = pd.DataFrame(table[:, positions], columns=[names[i] for i in positions])
    return _split(frame, columns)


def _read_npz(path: Path, columns: Columns) -> Table:
    with zipfile.ZipFile(path) as archive:
        arrays = [name.removesuffix(".npy") for name in archive.namelist()]
        if not {"x", "y"} <= set(arrays):
            raise UserError(f"{path}: needs arrays x and y, has {listed(arrays)}")
        if len(set(arrays)) < len(arrays):
            raise UserError(f"{path}: holds arrays of the same name: {listed(sorted(arrays))}")
        # Read to its end, each entry is compared with its checksum.
        x, y = (
            _read_array(
                f"{path}: {name}",
                partial(archive.open, f"{name}.npy"),
                archive.getinfo(f"{name}.npy").file_size,
                kinds=kinds,
            )
            for name, kinds in (("x", "biuf"), ("y", "biufUS"))
        )
    x = np.atleast_1d(x)
    x = x.reshape(len(x), -1)
    names = [f"x{i}" for i in range(x.shape[1])]
    positions = Columns(None, columns.features, columns.drop).of_features(names, str(path))
    features = pd.DataFrame(x[:, positions], columns=[names[i] for i in positions])
    return Table(features, pd.Series(y.reshape(-1)))


def _read_array(where: str, open_file: Callable, size: int, *, kinds: str = "biuf") -> np.ndarray:
    """One array in NumPy's format, in this machine's byte order.

    `where` names it in messages; `size` counts its bytes with the header; `kinds` are the allowed
    kinds of NumPy types. UserError for a header that does not fit the size, an empty array, or a
    type of another kind.
    """
    with open_file() as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise UserError(f"{where}: version {version} of NumPy's format cannot be read")
        shape, _, dtype = HEADERS[version](file)
        stored = size - file.tell()
    if dtype.kind not in kinds:
        allowed = "real numbers" if "U" not in kinds else "real numbers or text"
        raise UserError(f"{where} holds values of type {str(dtype)[:60]}; use {allowed}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != stored:
        raise UserError(
            f"{where}: its header claims shape {shape}, {claimed} bytes, but it holds {stored}"
        )
    if claimed == 0:
        raise UserError(f"{where} is empty: its shape is {shape}")
    rows = shape[0] if shape else 1
    require_table_memory(where, rows, math.prod(shape) // rows)
    with open_file() as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def require_table_memory(what: Path | str, rows: int, columns: int, text_bytes: int = 0) -> None:
    """UserError for a table that does not fit; `text_bytes` of text are in memory beside it."""
    needed = BYTES_PER_CELL * rows * columns + BYTES_PER_COLUMN * columns + text_bytes
    require_memory(needed, f"{what}: {rows} samples of {columns} columns", "use fewer of them")


TEXT = [kind + end for kind in (".csv", ".tsv", ".txt") for end in ("", *COMPRESSIONS)]
READERS = dict.fromkeys(TEXT, _read_text)
READERS |= {".parquet": _read_parquet, ".npy": _read_npy, ".npz": _read_npz}
