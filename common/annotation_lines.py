"""Lines of annotation files, and the boxes on them; what is wrong is named by file and line."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from common.errors import UserError


def annotation_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The place, "FILE, line N", and the text of each line that is not empty.

    Raises:
        UserError: the file is not text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", line


def place_of(path: Path, index: int) -> str:
    """The place of a file's line, empty ones not counted, by its number from 0 on."""
    return next(islice(annotation_lines(path), index, None))[0]


def parse_box(
    fields: list[str], place: str, *, width: int, height: int, beyond: float = 0
) -> np.ndarray:
    """(4,) int x0 y0 x1 y1 of inclusive pixels inside a width x height image.

    Args:
        beyond: by how many pixels x1 and y1 may pass the last ones; x0 and y0 never do.
    """
    try:
        box = np.array([int(field) for field in fields], dtype=np.int64)
        x0, y0, x1, y1 = box.tolist()
    except (ValueError, OverflowError) as error:
        raise UserError(f"{place}: {fields} are not four whole numbers x0 y0 x1 y1") from error
    across = 0 <= x0 <= x1 < width + beyond and x0 < width
    if not (across and 0 <= y0 <= y1 < height + beyond and y0 < height):
        inside = f"0..{width - 1}, 0..{height - 1}"
        raise UserError(f"{place}: box {x0} {y0} {x1} {y1} is not inside {inside}")
    return box
