"""The boxes of explained pictures as CSV and JSON; rows are only ever added."""

import json
from pathlib import Path

import pandas as pd

from mi_common.errors import UserError
from mi_common.files import write_atomically, write_text

COLUMNS = ["name", "file", "class", "probability", "method", "x0", "y0", "x1", "y1", "score"]
BOX = ["x0", "y0", "x1", "y1"]


class BoxTable:
    """`boxes.csv` of a folder, and `boxes.json` with the same rows.

    UserError for a `boxes.csv` that is not of this class.
    """

    def __init__(self, folder: Path):
        self.csv, self.json = folder / "boxes.csv", folder / "boxes.json"
        self._rows = pd.DataFrame(columns=COLUMNS, dtype=str)
        if self.csv.exists():
            try:
                self._rows = pd.read_csv(self.csv, dtype=str, keep_default_na=False)
            except ValueError as error:
                raise UserError(f"{self.csv}: not a table; move it") from error
            if list(self._rows.columns) != COLUMNS:
                raise UserError(f"{self.csv}: columns {', '.join(self._rows)}; move it")

    def names(self) -> list[str]:
        """The stem of each explained picture's files, in the order of the rows."""
        return list(dict.fromkeys(self._rows["name"]))

    def add(self, rows: list[dict]) -> None:
        """Adds rows to the CSV."""
        added = pd.DataFrame(rows, columns=COLUMNS).astype(str)
        self._rows = pd.concat([self._rows, added], ignore_index=True)
        write_atomically(self.csv, lambda partial: self._rows.to_csv(partial, index=False))

    def write_json(self) -> None:
        """A list of objects: numbers as numbers, `box` as a list, or null where there is none."""
        entries = []
        for row in self._rows.to_dict("records"):
            numbers = [row.pop(column) for column in BOX]
            box = [int(n) for n in numbers] if numbers[0] else None
            values = {name: float(row[name]) for name in ("probability", "score")}
            entries.append(row | values | {"box": box})
        write_text(self.json, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
