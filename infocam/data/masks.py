"""Segmentation masks from PNG files: 1 foreground, 0 background, 255 neither."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from mi_common.errors import UserError
from mi_common.pictures import verify_png

FOREGROUND, IGNORED = 1, 255


@dataclass(frozen=True)
class InstanceMasks:
    """The masks of an image in the benchmark's OpenImages: files of any size, foreground above 0.

    Attributes:
        objects: a mask of each object.
        ignored: a mask of what is not scored, except where an object is.
    """

    objects: tuple[Path, ...]
    ignored: Path | None = None


def scored_mask(
    files: Path | InstanceMasks, size: Sequence[int], frame: tuple[int, int]
) -> np.ndarray:
    """(h, w) uint8: 1 foreground, 0 background, 255 ignored.

    The masks of instances are stretched to the frame, each by its nearest pixels, as in the
    benchmark (Choe et al. 2020); any other mask has the size of its image (see `read_mask`).

    Args:
        size: width and height of the image.
        frame: width and height that its map is stretched to.
    """
    if isinstance(files, Path):
        return read_mask(files, *size)
    stretched = [
        cv2.resize(_read_instance(path), frame, interpolation=cv2.INTER_NEAREST)
        for path in (*files.objects, *filter(None, [files.ignored]))
    ]
    foreground = np.any(stretched[: len(files.objects)], axis=0)
    ignored = stretched[-1] > 0 if files.ignored else np.zeros_like(foreground)
    return np.where(foreground, FOREGROUND, np.where(ignored, IGNORED, 0)).astype(np.uint8)


def object_boxes(files: InstanceMasks, width: int, height: int) -> np.ndarray:
    """(M, 4) ints x0 y0 x1 y1: around each object, in inclusive pixels of its image.

    UserError for a mask without foreground.
    """
    boxes = []
    for path in files.objects:
        levels = _read_instance(path)
        rows, columns = (np.flatnonzero(levels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            raise UserError(f"{path}: no foreground; leave its line out of localization.txt")
        scale = np.array([width, height]) / levels.shape[::-1]
        start = np.floor(np.array([columns[0], rows[0]]) * scale)
        end = np.ceil(np.array([columns[-1] + 1, rows[-1] + 1]) * scale)
        boxes.append([*start, *np.maximum(end - 1, start)])
    return np.array(boxes, dtype=np.int64)


def _read_instance(path: Path) -> np.ndarray:
    """(h, w) uint8: 1 foreground, 0 background."""
    return (_read_levels(path, None) > 0).astype(np.uint8)


def read_mask(path: Path, width: int, height: int) -> np.ndarray:
    """(height, width) uint8: 1 foreground, 0 background, 255 ignored.

    A file with the levels 0, 1 and 255 only, 1 among them, already is such a mask. In any other
    file a level says how certainly the pixel is foreground, as in the CUB segmentations; levels
    above 127 become foreground.

    UserError for a file that is missing or damaged, has colours or more than 8 bits a level, or
    differs in size from its image.
    """
    levels = _read_levels(path, (width, height))
    if (levels == FOREGROUND).any() and np.isin(levels, (0, FOREGROUND, IGNORED)).all():
        return levels.copy()
    return (levels > 127).astype(np.uint8)


def _read_levels(path: Path, expected: tuple[int, int] | None) -> np.ndarray:
    """(h, w) uint8 grey levels of a PNG file; `expected` width and height, None for any."""
    rgb = None
    try:
        verify_png(path)
        with Image.open(path) as image:
            # Pillow takes the upper half of 16-bit colours, and a 1 becomes a 0.
            deep = image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in image.tile)
            pixels = image.width * image.height
            # else decoding may take all memory
            if expected is None or pixels == expected[0] * expected[1]:
                image = ImageOps.exif_transpose(image)
                rgb = np.asarray(image.convert("RGB"))
            size = image.size
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise UserError(f"{path}: not a readable mask ({type(error).__name__})") from error
    if expected is not None and size != expected:
        sizes = f"{size[0]} x {size[1]} pixels, its image {expected[0]} x {expected[1]}"
        raise UserError(f"{path}: {sizes}")
    if deep or (rgb != rgb[..., :1]).any():
        raise UserError(f"{path}: not 8-bit grey levels; want 0 background, 255 foreground")
    return rgb[..., 0]
