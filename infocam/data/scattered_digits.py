"""Scattered digits: real MNIST digits among fragments of others, with known boxes.

Each 64 x 64 canvas has one whole digit, with random scale and position, and fragments of other
images. The label and the box are those of the whole digit's ink. A network has to tell the digit
from the fragments, and a centred box does not help.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from mi_common.errors import UserError, require_memory

CANVAS = 64
DIGIT_SIZES = (20, 40)  # longer side in pixels
FRAGMENTS, FRAGMENT_SIZES = 8, (7, 12)
INK = 64  # the grey level from which a pixel counts as ink


def scattered_digits(
    images: Tensor, labels: Tensor, count: int, seed: int
) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """Draws `count` canvases of (N, 28, 28) uint8 digits and (N,) labels, by the seed.

    Returns:
        (count, 64, 64) uint8 canvases, (count,) int64 labels, and for each canvas a (1, 4) box
        x0 y0 x1 y1 of inclusive pixels.

    UserError for no digits, a blank one, or too little memory for the canvases.
    """
    if not len(images):
        raise UserError("scattered-digits: no digits to draw from; the image file is too short")
    if blank := (images < INK).flatten(1).all(dim=1).nonzero().flatten().tolist():
        raise UserError(f"scattered-digits: digit {blank[0]} is blank; download the digits again")
    # A byte per pixel here, and four as the network's input.
    require_memory(5 * count * CANVAS**2, f"scattered-digits, {count} canvases", "draw fewer")
    rng = np.random.default_rng(seed)
    pictures = images.numpy()
    indices = rng.integers(len(pictures), size=count)
    canvases = np.zeros((count, CANVAS, CANVAS), np.uint8)
    boxes = []
    for canvas, index in zip(canvases, indices, strict=True):
        digit = _scaled(pictures[index], rng.integers(*DIGIT_SIZES, endpoint=True))
        height, width = digit.shape
        x, y = rng.integers(CANVAS - width + 1), rng.integers(CANVAS - height + 1)
        canvas[y : y + height, x : x + width] = digit
        box = _ink_box(digit) + np.array([x, y, x, y])
        for source in rng.integers(len(pictures), size=FRAGMENTS):
            _place_fragment(canvas, box, pictures[source], rng)
        boxes.append(box[None])
    return torch.from_numpy(canvases), labels[torch.from_numpy(indices)], boxes


def _scaled(picture: np.ndarray, longer_side: int) -> np.ndarray:
    x0, y0, x1, y1 = _ink_box(picture)
    ink = picture[y0 : y1 + 1, x0 : x1 + 1]
    scale = longer_side / max(ink.shape)
    size = [max(round(side * scale), 1) for side in ink.shape[::-1]]
    return cv2.resize(ink, size, interpolation=cv2.INTER_LINEAR)


def _ink_box(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero((picture >= INK).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]])


def _place_fragment(
    canvas: np.ndarray, box: np.ndarray, picture: np.ndarray, rng: np.random.Generator
) -> None:
    """Pastes a square around an ink pixel of `picture`, unless it would touch the digit."""
    size = rng.integers(*FRAGMENT_SIZES, endpoint=True)
    ys, xs = np.nonzero(picture >= INK)
    pick = rng.integers(len(ys))
    top = np.clip(ys[pick] - size // 2, 0, len(picture) - size)
    left = np.clip(xs[pick] - size // 2, 0, len(picture) - size)
    x, y = rng.integers(CANVAS - size + 1, size=2)
    if x > box[2] + 1 or y > box[3] + 1 or x + size < box[0] or y + size < box[1]:
        place = canvas[y : y + size, x : x + size]
        np.maximum(place, picture[top : top + size, left : left + size], out=place)
