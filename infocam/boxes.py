"""From a localisation map to a box: resize, 8 bits, threshold, the largest contour.

Boxes are x0 y0 x1 y1 of inclusive pixels: a box of one pixel has x0 = x1.
"""

import cv2
import numpy as np

THRESHOLDS = np.arange(100) / 100


def resize_map(localisation_map: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic interpolation as in OpenCV: (h, w) floats -> (height, width) float32."""
    return cv2.resize(
        localisation_map.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )


def to_8bit(localisation_map: np.ndarray) -> np.ndarray:
    """Maps the smallest value to 0 and the largest to 255: (H, W) floats -> (H, W) uint8.

    A constant map, or one with a value that is not finite, says nothing about the place: it
    becomes zero everywhere (Choe et al. 2020).
    """
    low, high = localisation_map.min(), localisation_map.max()
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return np.zeros(localisation_map.shape, np.uint8)
    return ((localisation_map - low) / (high - low) * 255).astype(np.uint8)


def largest_contour_box(mask: np.ndarray) -> np.ndarray:
    """(4,) box of the contour with the largest area; (0, 0, 0, 0) for an empty mask.

    Args:
        mask: (H, W) uint8, foreground above zero.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros(4, int)
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return np.array([x, y, x + width - 1, y + height - 1])


def boxes_at_thresholds(levels: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """The box at each threshold t: foreground is strictly above int(t * max).

    Thresholds that fall on the same of the 256 levels share one computation.

    Args:
        levels: (H, W) uint8 map of `to_8bit`.
        thresholds: (T,) fractions of the maximum, in 0..1.

    Returns:
        (T, 4).
    """
    cuts = (thresholds * levels.max()).astype(int)
    unique, inverse = np.unique(cuts, return_inverse=True)
    boxes = [largest_contour_box((levels > cut).astype(np.uint8)) for cut in unique]
    return np.stack(boxes)[inverse]


def centre_boxes(width: int, height: int, sides: np.ndarray) -> np.ndarray:
    """Centred boxes whose sides are fractions of the image's: (S,) in (0, 1] -> (S, 4)."""
    size = np.array([width, height])
    extent = np.maximum(np.rint(sides[:, None] * size), 1).astype(int)
    start = (size - extent) // 2
    return np.concatenate([start, start + extent - 1], axis=1)
