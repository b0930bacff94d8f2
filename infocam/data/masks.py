"""Segmentation masks from PNG files: 1 foreground, 0 background, 255 neither."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mi_common.errors import UserError
from mi_common.pictures import verify_png

FOREGROUND, IGNORED = 1, 255


def read_mask(path: Path, width: int, height: int) -> np.ndarray:
    """(height, width) uint8: 1 foreground, 0 background, 255 ignored.

    A file with the levels 0, 1 and 255 only, 1 among them, already is such a mask. In any other
    file a level says how certainly the pixel is foreground, as in the CUB segmentations; levels
    above 127 become foreground.

    UserError for a file that is missing or damaged, has colours or more than 8 bits a level, or
    differs in size from its image.
    """
    try:
        verify_png(path)
        with Image.open(path) as image:
            # Pillow takes the upper half of 16-bit colours, and a 1 becomes a 0.
            deep = image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in image.tile)
            if image.width * image.height == width * height:  # else decoding may take all memory
                image = ImageOps.exif_transpose(image)
                rgb = np.asarray(image.convert("RGB"))
            size = image.size
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise UserError(f"{path}: not a readable mask ({type(error).__name__})") from error
    if size != (width, height):
        raise UserError(f"{path}: {size[0]} x {size[1]} pixels, its image {width} x {height}")
    if deep or (rgb != rgb[..., :1]).any():
        raise UserError(f"{path}: not 8-bit grey levels; want 0 background, 255 foreground")
    levels = rgb[..., 0]
    if (levels == FOREGROUND).any() and np.isin(levels, (0, FOREGROUND, IGNORED)).all():
        return levels.copy()
    return (levels > 127).astype(np.uint8)
