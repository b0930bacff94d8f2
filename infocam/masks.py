"""Segmentation masks from PNG files: 1 foreground, 0 background, 255 neither."""

from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from common.image_files import UNREADABLE
from infocam.metrics import FOREGROUND

IGNORED = 255


def read_mask(path: Path, width: int, height: int) -> np.ndarray:
    """The mask of an image of width x height pixels.

    A file that holds no other levels than 0, 1 and 255, and 1 among them, is taken as it is. In any
    other, levels are how sure a pixel is foreground, as in the CUB segmentations: above 127 it is.

    Returns:
        (height, width) uint8: 1 foreground, 0 background, 255 to be ignored.

    Raises:
        UserError: a file that is missing or not readable, in colours, of more than 8 bits a level,
            or of another size than its image.
    """
    try:
        with Image.open(path) as image:
            mode, rgb = image.mode, np.asarray(image.convert("RGB"))
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({type(error).__name__})") from error
    if mode.startswith(("I", "F")) or (rgb != rgb[..., :1]).any():
        raise UserError(f"{path}: not 8-bit grey levels; want 0 background, 255 foreground")
    if rgb.shape[:2] != (height, width):
        found = f"{rgb.shape[1]} x {rgb.shape[0]}"
        raise UserError(f"{path}: {found} pixels, its image has {width} x {height}")
    levels = rgb[..., 0]
    if (levels == FOREGROUND).any() and np.isin(levels, (0, FOREGROUND, IGNORED)).all():
        return levels.copy()
    return (levels > 127).astype(np.uint8)
