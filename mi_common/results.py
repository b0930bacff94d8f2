"""Tables of results that grow row by row: `results.csv`, written whole after each computation."""

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.annotation_lines import CONTROL
from mi_common.errors import UserError
from mi_common.files import damaged_file, write_atomically

_REMEDY = "delete it and run again with --resume"
# From version 3 on, pandas reads every float as it was written without being asked.
_EXACT_FLOATS = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


class ResultsFile:
    """A `results.csv` with one or more rows per (setting, method, seed), added to one by one."""

    def __init__(
        self,
        path: Path,
        columns: list[str],
        key: list[str],
        *,
        text: Mapping[str, Collection[str] | None],
    ):
        """
        Args:
            key: the columns that identify a computation, which may add several rows.
            text: the columns that hold text, and the texts that may be there; None for any but an
                empty one. All other columns hold numbers.

        UserError if the file exists with other columns, or is damaged.
        """
        self.path, self.columns, self.key, self.text = path, columns, key, text
        self.frame = self._read() if path.exists() else pd.DataFrame(columns=columns)

    def _read(self) -> pd.DataFrame:
        try:
            text = self.path.read_text(encoding="utf-8")
            lines = list(csv.reader(io.StringIO(text), strict=True))
            missing = {name: [""] for name in self.columns if name not in self.text}
            options = {"keep_default_na": False, "na_values": missing, **_EXACT_FLOATS}
            frame = pd.read_csv(self.path, **options)
        except (ValueError, csv.Error) as error:
            raise damaged_file(self.path, remedy=_REMEDY) from error
        if lines[0] != self.columns:
            difference = f"columns {lines[0]}, not {self.columns}"
            raise UserError(f"{self.path}: {difference}; {_REMEDY}")
        numbers = frame.drop(columns=list(self.text))
        status = frame.get("status", pd.Series("ok", frame.index))
        whole = text.endswith("\n") and all(len(line) == len(self.columns) for line in lines)
        whole = whole and all(map(pd.api.types.is_numeric_dtype, numbers.dtypes))
        for name, allowed in self.text.items():
            texts = frame[name].astype(str)
            whole = whole and (texts.ne("") if allowed is None else texts.isin([*allowed])).all()
        if not (whole and status.str.match("ok$|failed: ").all()):
            raise damaged_file(self.path, remedy=_REMEDY)
        keys = frame[self.key]
        key_dtypes = keys.drop(columns=list(self.text), errors="ignore").dtypes
        finite = np.isfinite(numbers[status == "ok"]).all(axis=None)
        finite &= not np.isinf(numbers).any(axis=None)  # nor infinite in a failed row
        valid = keys.notna().all(axis=None) and all(key_dtypes == np.int64) and finite
        if not valid or CONTROL.search(text) or frame.duplicated().any():
            raise damaged_file(self.path, remedy=_REMEDY)
        return frame

    def __contains__(self, key: tuple) -> bool:
        return tuple(map(str, key)) in self._positions()

    def select(self, keys: list[tuple]) -> pd.DataFrame:
        """The rows of the given keys, in their order."""
        positions = self._positions()
        return self.frame.iloc[[i for key in keys for i in positions.get(tuple(map(str, key)), [])]]

    def _positions(self) -> dict[tuple, list[int]]:
        positions: dict[tuple, list[int]] = {}
        for i, row in enumerate(self.frame[self.key].itertuples(index=False, name=None)):
            positions.setdefault(tuple(map(str, row)), []).append(i)
        return positions

    def add(self, rows: list[dict]) -> None:
        """Appends rows and rewrites the file atomically."""
        new = pd.DataFrame(rows, columns=self.columns).replace(CONTROL, "?", regex=True)
        self.frame = new if self.frame.empty else pd.concat([self.frame, new], ignore_index=True)
        write_atomically(self.path, lambda partial: self.frame.to_csv(partial, index=False))

    def drop(self, wrong: pd.Series) -> None:
        """Removes the rows where `wrong`, (N,) bool, is true; the next `add` writes the file."""
        self.frame = self.frame[~wrong].reset_index(drop=True)
