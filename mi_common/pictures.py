"""The one reader of pictures: upright, 8-bit RGB; and which files are pictures."""

import glob
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mi_common.errors import UserError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises
READER_VERSION = 2  # part of the names of cached features; raise it when pixels come out otherwise


def read_image(path: Path) -> Image.Image:
    """An upright 8-bit RGB image, on white where it is transparent.

    An image of more than 8 bits a channel is stretched from its darkest to its lightest value.
    UserError if the file is missing, not a readable image, or of more pixels than PIL accepts.
    """
    try:
        verify_png(path)
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":
                image = Image.fromarray(_stretched(np.asarray(image, dtype=np.float64)))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB")
    except UNREADABLE as error:
        raise _not_readable(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright image, with the errors of `read_image`.

    They come from the header, but a PNG is decoded: its EXIF data may stand at its end.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except UNREADABLE as error:
        raise _not_readable(path, error) from error


def picture_files(places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The pictures in and below folders by name, and other files there.

    A place that is not there may be a pattern, such as `photos/*.jpg` or `photos/**/cat*`. Files
    that are given themselves are pictures whatever their ending. Hidden files and folders are left
    out, links to folders are not followed, and each file counts once. UserError for a path that is
    not there, a pattern without a match, and for no pictures.
    """
    pictures: dict[Path, None] = {}
    others = []
    for place in itertools.chain.from_iterable(map(_matches, places)):
        if not place.is_dir():
            pictures[place] = None
        for folder, inner, names in os.walk(place):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(name for name in names if not name.startswith(".")):
                path = Path(folder, name)
                if path.suffix.lower() in EXTENSIONS:
                    pictures[path] = None
                else:
                    others.append(path)
    if not pictures:
        raise UserError(f"{places[0]}: no pictures; use files that end in {' '.join(EXTENSIONS)}")
    return list(pictures), others


def _matches(place: Path) -> list[Path]:
    if os.path.exists(place):
        return [place]
    is_pattern = glob.has_magic(str(place))
    matches = sorted(glob.glob(str(place), recursive=True)) if is_pattern else []
    if not matches:
        raise UserError(f"{place}: no such file or folder" + (", and no match" * is_pattern))
    return [Path(match) for match in matches]


def printable(path: Path) -> str:
    """A path as text; bytes that are not UTF-8 become \\udcXX."""
    return str(path).encode(errors="backslashreplace").decode()


def verify_png(path: Path) -> None:
    """Compares a PNG's checksums, which Pillow's decoder does not; SyntaxError if one is wrong."""
    with Image.open(path) as image:
        if image.format == "PNG":
            image.verify()


def _not_readable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable image ({type(error).__name__})")


def _stretched(levels: np.ndarray) -> np.ndarray:
    """Finite levels as uint8, the smallest as 0 and the largest as 255; a constant image is 0."""
    span = np.ptp(levels)
    if not np.isfinite(span):
        raise ValueError("levels that are not finite")
    return ((levels - levels.min()) / (span or 1) * 255).astype(np.uint8)
