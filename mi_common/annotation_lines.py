"""Reads lines, numbers and boxes of annotation files. Errors name the file and the line."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mi_common.errors import UserError

# Limits of pictures: the longest side of a JPEG file, and the number of pixels beyond which Pillow
# reports a decompression bomb (2 * PIL.Image.MAX_IMAGE_PIXELS).
MAX_SIDE, MAX_PIXELS = 65_535, 178_956_970
# The largest public sets of labelled images have some 22,000 classes.
MAX_CLASSES = 1_000_000
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # characters that no text holds
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)  # at most 18 digits: fits into int64


def brief(text: str, limit: int = 100) -> str:
    """The text for a message: control characters escaped, cut after `limit` characters."""
    cut = text[:limit]
    cut = cut if cut.isprintable() else repr(cut)[1:-1]
    return cut if len(text) <= limit else f"{cut}..."


def whole_number(text: str, least: int, most: int) -> int | None:
    """The number in a text of digits 0..9; None unless it is from `least` to `most`."""
    # str.isdecimal is true of other scripts' digits too, and int() fails on more than 4,300 digits.
    if text.isascii() and text.isdecimal() and len(text) <= 18 and least <= int(text) <= most:
        return int(text)
    return None


def annotation_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The place, "FILE, line N", and the text of each line that is not empty.

    UserError if the file is missing, cannot be read, or is not text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows editors write a byte-order mark
            for number, line in enumerate(file, start=1):
                place = f"{path}, line {number}"
                if "\0" in line:
                    raise UserError(f"{place}: holds a NUL character; not a text file")
                if line.strip(" \r\n"):  # keep lines of tabs: their reader reports empty cells
                    yield place, line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def place_of(path: Path, index: int) -> str:
    """The place of a line by its index; empty lines do not count."""
    return next(islice(annotation_lines(path), index, None))[0]


def parse_number(name: str, text: str, least: int, most: int, place: str) -> int:
    """The number in a text; UserError unless it is from `least` to `most`."""
    if (number := whole_number(text, least, most)) is None:
        raise UserError(
            f"{place}: {name} '{brief(text)}' is not a whole number from {least} to {most}"
        )
    return number


def parse_label(text: str, place: str) -> int:
    """A class number; UserError for any other text."""
    return parse_number("label", text, 0, MAX_CLASSES - 1, place)


def parse_size(width: str, height: str, place: str) -> tuple[int, int]:
    """Width and height of an image in pixels; UserError for a size beyond the limits."""
    x = parse_number("width", width, 1, MAX_SIDE, place)
    y = parse_number("height", height, 1, MAX_SIDE, place)
    if x * y > MAX_PIXELS:
        raise UserError(f"{place}: an image of {x} x {y} pixels; at most {MAX_PIXELS} are allowed")
    return x, y


def parse_box(
    fields: list[str], place: str, *, width: int, height: int, beyond: float = 0
) -> np.ndarray:
    """(4,) int64 x0 y0 x1 y1 of inclusive pixels inside a width x height image.

    x1 and y1 may lie `beyond` pixels outside the image, up to `MAX_SIDE`; x0 and y0 must not.
    """
    if len(fields) != 4 or not all(_INTEGER.fullmatch(field) for field in fields):
        shown = [brief(field) for field in fields[:4]]
        raise UserError(f"{place}: {shown} are not four whole numbers x0 y0 x1 y1")
    x0, y0, x1, y1 = map(int, fields)
    right, bottom = (min(side - 1 + beyond, MAX_SIDE) for side in (width, height))
    if not (0 <= x0 <= x1 <= right and x0 < width and 0 <= y0 <= y1 <= bottom and y0 < height):
        inside = f"0..{width - 1}, 0..{height - 1}"
        raise UserError(f"{place}: box {x0} {y0} {x1} {y1} is not inside {inside}")
    return np.array([x0, y0, x1, y1], dtype=np.int64)
