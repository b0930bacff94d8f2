"""What Pillow leaves to its caller: checksums of PNG files, levels of more than 8 bits."""

from pathlib import Path

import numpy as np
from PIL import Image


def verify_png(path: Path) -> None:
    """Compares a PNG's checksums, which decoding does not; SyntaxError where one is wrong."""
    with Image.open(path) as image:
        if image.format == "PNG":
            image.verify()


def stretched(values: np.ndarray) -> np.ndarray:
    """Finite levels to uint8, the smallest to 0 and the largest to 255; a constant image is 0."""
    span = np.ptp(values)
    if not np.isfinite(span):
        raise ValueError("levels that are not finite")
    return ((values - values.min()) / (span or 1) * 255).astype(np.uint8)
