"""Tables in text files: CSV with commas, semicolons, tabs or bars, also compressed.

A line longer or shorter than the header would put values into the wrong column, a control character
says that this is no text. Every line is checked before pandas reads the file.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

import pandas as pd

from mi_common.errors import UserError

DELIMITERS = ",;\t|"
DELIMITER_ROWS = 100  # lines of cells that show which delimiter a file has
COMPRESSIONS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # all but tab and line ends
LONGEST_LINE = 2**27  # characters; a file without line ends must not be read at once
CHECK_ROWS = 2**20  # a compressed file can be endless: memory is checked each so many rows
DECIMAL_COMMA = r"\s*[+-]?([0-9]+(,[0-9]+)?|,[0-9]+)([eE][+-]?[0-9]+)?\s*"


def read_text_table(
    path: Path,
    positions_of: Callable[[list[str], str], list[int]],
    label: str | None,
    check_memory: Callable[[int, int, int], None],
) -> tuple[pd.DataFrame, list[str]]:
    """The columns that `positions_of(header, place)` chooses, and a note on each conversion.

    The label is read as text, so that 01 stays 01. With semicolons between cells, numbers may have
    decimal commas. `check_memory(rows, columns, bytes)` raises when the table is too large.
    UserError with the line for what is wrong.
    """
    opened = COMPRESSIONS.get(path.suffix.lower(), open)
    try:
        with io.TextIOWrapper(opened(path, "rb"), encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(path, file)
            file.seek(0)
            line, names, rows = _scan(path, file, delimiter, check_memory)
            if len(names) == 1 and label not in (None, *names):
                raise UserError(f"{path}: one column, {names[0]}; separate cells by , ; tab or |")
            positions = positions_of(names, f"{path}: line {line}")
            check_memory(rows, len(positions), file.buffer.tell())
            file.seek(0)
            # Not in chunks (low_memory), so that each feature column has one type.
            frame = pd.read_csv(
                file,
                sep=delimiter,
                header=0,
                names=list(range(len(names))),
                usecols=positions,
                dtype={i: str for i in positions if names[i] == label},
                index_col=False,
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: {error}; save it as UTF-8") from error
    if len(frame) != rows:
        raise UserError(f"{path}: cannot be read: {rows} lines of cells, but {len(frame)} rows")
    converted = _read_decimal_commas(frame, names, label) if delimiter == ";" else []
    notes = [f"decimal commas in columns {', '.join(converted)}: 1,5 is 1.5"] if converted else []
    return frame[positions].set_axis([names[i] for i in positions], axis=1), notes


def _delimiter(path: Path, file: IO[str]) -> str:
    """The character that splits header and first rows into the same number of cells, above one.

    If there is none, that which splits the header most often, for the message about a line. The
    UserError for two of them says that quotes make cells safe.
    """
    widths = {delimiter: _widths(path, file, delimiter) for delimiter in DELIMITERS}
    fitting = [d for d, counts in widths.items() if counts[0] > 1 and len(set(counts)) == 1]
    if len(fitting) > 1:
        shown = " and ".join(map(repr, fitting))
        raise UserError(
            f"{path}: {shown} both split each line into equally many cells; put quotes around the "
            "cells that contain one of them"
        )
    return fitting[0] if fitting else max(DELIMITERS, key=lambda d: widths[d][0])


def _widths(path: Path, file: IO[str], delimiter: str) -> list[int]:
    """Cells in the header and the first rows; a final 0 where quotes do not fit the delimiter."""
    file.seek(0)
    widths = []
    try:
        for _, cells in islice(_rows(path, file, delimiter), DELIMITER_ROWS):
            widths.append(len(cells))
    except csv.Error:
        widths.append(0)
    return widths or [0]


def _rows(path: Path, file: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row and the header; lines without content are left out."""
    reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield reader.line_num, cells
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error


def _scan(
    path: Path, file: IO[str], delimiter: str, check_memory: Callable[[int, int, int], None]
) -> tuple[int, list[str], int]:
    """The header's line number, its names and the number of rows; all have the same length.

    pandas takes longer rows for rows with an index, and fills up shorter ones.
    """
    lines = _rows(path, file, delimiter)
    header_line, header = next(lines, (0, []))
    if not header:
        raise UserError(f"{path}: cannot be read: there is no header line")
    rows = 0
    for line, cells in lines:
        if len(cells) != len(header):
            raise UserError(
                f"{path}: line {line} has {len(cells)} cells, the header has {len(header)}"
            )
        rows += 1
        if rows % CHECK_ROWS == 0:
            check_memory(rows, 1, file.buffer.tell())
    # The name that pandas gives, for --drop.
    return header_line, [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)], rows


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), ""), start=1):
        control = CONTROL.search(line)
        if control or len(line) == LONGEST_LINE:
            content = f"holds the control character {control[0]!r}" if control else "does not end"
            raise UserError(
                f"{path}: cannot be read: line {number} {content}; save it as CSV in UTF-8"
            )
        yield line


def _read_decimal_commas(frame: pd.DataFrame, names: list[str], label: str | None) -> list[str]:
    """Writes 1.5 for 1,5 in columns where every cell is such a number; their names.

    The columns become numbers, but the label stays text.
    """
    converted = []
    for i in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[i].dtype):
            continue
        texts = pd.Series(frame[i].dropna().unique(), dtype=object).astype(str)
        if texts.str.fullmatch(DECIMAL_COMMA).all() and texts.str.contains(",").any():
            points = frame[i].str.replace(",", ".")
            frame[i] = points if names[i] == label else pd.to_numeric(points)
            converted.append(names[i])
    return converted
