"""From a localisation map to boxes: resize, 8 bits, threshold, contours.

Boxes are x0 y0 x1 y1 of inclusive pixels: a box of one pixel has x0 = x1. Some protocols of
`infocam.scoring.protocols` differ.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from infocam.names import NORMALISATIONS
from mi_common.errors import UserError

FEW_MASKS = 8  # for which the groups of masks take longer than OpenCV
# The neighbours of a pixel in circular order, (down, right): sides at even places, then corners.
AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
# What the rule "mean" adds to the threshold; no shift comes first.
MEAN_SHIFTS = np.array([0, -0.1, -0.05, 0.05, 0.1])


@dataclass(frozen=True)
class BoxOptions:
    """What a map's box depends on beside the threshold.

    Attributes:
        prior_weight: how much of the prior map is added to the map; see `add_prior_map`.
        mean_weight: how much of the mean of the 0..1 map is added to the threshold.
        box_rule: "largest", the box of the largest contour; "mean", the mean of these boxes at five
            thresholds from 0.1 below to 0.1 above; "peak", the box of the component that holds the
            map's largest value.
    """

    prior_weight: float = 0.0
    mean_weight: float = 0.0
    box_rule: str = "largest"


def resize_map(localisation_map: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bicubic interpolation as in OpenCV: (h, w) floats -> (height, width) float32."""
    values = localisation_map.astype(np.float32)
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)


def normalise(localisation_map: np.ndarray, normalisation: str = "minmax") -> np.ndarray:
    """(H, W) floats -> (H, W) float32 in 0..1 with the largest value at 1.

    A map that is constant, not finite or, for "max", nowhere positive becomes zero everywhere,
    because it does not locate anything (Choe et al. 2020).

    Args:
        normalisation: "minmax" maps the smallest value to 0. "max" maps 0 and all negative values
            to 0. "percentile" is "minmax" after clipping at the 1st and 99th percentile.
    """
    if normalisation not in NORMALISATIONS:
        raise UserError(f"normalisation {normalisation!r}: use one of {', '.join(NORMALISATIONS)}")
    values = np.asarray(localisation_map, np.float32)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return np.zeros_like(values)
    if normalisation == "max":
        low = np.float32(0)
    if normalisation == "percentile":
        low, high = np.percentile(values, (1, 99)).astype(np.float32)
    if not high > low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def to_8bit(localisation_map: np.ndarray, normalisation: str = "minmax") -> np.ndarray:
    """The result of `normalise` in 256 levels: (H, W) floats -> (H, W) uint8."""
    return (normalise(localisation_map, normalisation) * 255).astype(np.uint8)


def contour_boxes(
    levels: np.ndarray, cuts: np.ndarray, *, box_end: str = "inclusive"
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of all contours, outer ones and holes, of the pixels above each cut.

    Cuts between the same two levels of the map have the same mask and share one call of OpenCV.
    Where the number of contours is one and stays one from cut to cut, no call is needed.

    Args:
        levels: (H, W) uint8.
        cuts: (T,) ints; foreground is strictly above.
        box_end: "inclusive": a box ends at its last pixel. "beyond": one pixel further, at x +
            width. "clipped": as "beyond", but at most at the image's last pixel, as in the WSOL
            benchmark.

    Returns:
        (R, 4) int boxes, mask after mask, in each mask the contour with the largest
        `cv2.contourArea` first; and (T,) the row where the boxes of each cut's mask start. An empty
        mask has one box, 0 0 0 0, or 0 0 1 1 with "beyond".
    """
    height, width = levels.shape
    present = np.flatnonzero(np.bincount(levels.ravel(), minlength=256))
    level_below = np.searchsorted(present, cuts, side="right") - 1  # -1: all is above the cut
    distinct, mask_of_cut = np.unique(level_below, return_inverse=True)
    thresholds = np.append(present, -1)[distinct]
    columns, rows = (_above(levels.max(axis=axis), thresholds) for axis in (0, 1))
    groups = range(len(thresholds))
    if len(thresholds) > FEW_MASKS:
        groups = _groups_of_masks(levels)[thresholds + 1].tolist()
    rectangles, starts, single = [], [], set()
    by_mask = zip(groups, thresholds.tolist(), *columns, *rows, strict=True)
    for group, level, left, right, top, bottom in by_mask:
        starts.append(len(rectangles))
        if group in single:
            rectangles.append((left, top, right - left, bottom - top))
            continue
        contours = ()
        if left < right:  # OpenCV searches only the rows and columns with foreground
            part = levels[top:bottom, left:right]
            _, mask = cv2.threshold(part, level, 1, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(
                mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top)
            )
        if len(contours) == 1:
            single.add(group)
        else:  # stable: of equal areas the first stays first
            contours = sorted(contours, key=cv2.contourArea, reverse=True)
        rectangles += [cv2.boundingRect(contour) for contour in contours] or [(0, 0, 0, 0)]
    boxes = _corners(np.array(rectangles), width, height, box_end)
    return boxes, np.array(starts)[mask_of_cut]


def _corners(rectangles: np.ndarray, width: int, height: int, box_end: str) -> np.ndarray:
    """Boxes of (R, 4) x, y, width, height in an image; `box_end` as in `contour_boxes`."""
    boxes, empty = rectangles.copy(), rectangles[:, 2] == 0
    boxes[:, 2:] += boxes[:, :2] - (box_end == "inclusive")
    if box_end == "clipped":
        boxes[:, 2:] = np.minimum(boxes[:, 2:], [width - 1, height - 1])
    boxes[empty] = (0, 0, 1, 1) if box_end == "beyond" else (0, 0, 0, 0)
    return boxes


def threshold_boxes(
    levels: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
    options: BoxOptions,
    *,
    box_end: str = "inclusive",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The box of a map at each threshold, by the rule of `options`, and those of all contours.

    Args:
        levels: (H, W) uint8 of the map that is compared with thresholds.
        scores: (H, W) the map in 0..1.
        thresholds: (T,) in [0, 1); one that options raise above the map leaves its peak.

    Returns:
        (T, 4) boxes, floats for the rule "mean"; (R, 4) boxes of the contours of all masks; (T, S)
        the rows where those of the masks of each threshold start, its own first; see
        `contour_boxes`.
    """
    if options.mean_weight:
        thresholds = thresholds + options.mean_weight * float(scores.mean())
    shifts = MEAN_SHIFTS if options.box_rule == "mean" else np.zeros(1)
    cuts = ((thresholds[:, None] + shifts) * 255).astype(int).clip(0, 254)
    contours, starts = contour_boxes(levels, cuts.ravel(), box_end=box_end)
    starts = starts.reshape(cuts.shape)
    if options.box_rule == "peak":
        boxes = _peak_boxes(levels, cuts[:, 0], int(scores.argmax()), box_end)
    else:
        boxes = contours[starts[:, 0]] if len(shifts) == 1 else contours[starts].mean(axis=1)
    return boxes, contours, starts


def _peak_boxes(levels: np.ndarray, cuts: np.ndarray, peak: int, box_end: str) -> np.ndarray:
    """(T, 4) boxes of the component that holds the flat position `peak` above each of T cuts."""
    # The level up to which each pixel is joined to the peak: reconstruction by dilation (Vincent
    # 1993), in which a component above a cut is what exceeds the cut.
    joined, last = np.zeros_like(levels), None
    joined.flat[peak] = levels.flat[peak]
    while last is None or (joined != last).any():
        last = joined
        joined = np.minimum(cv2.dilate(last, np.ones((3, 3), np.uint8)), levels)
    columns, rows = (_above(joined.max(axis=axis), cuts) for axis in (0, 1))
    first, end = np.stack([columns, rows], axis=-1)
    rectangles = np.where(end > first, [first, end - first], 0)
    height, width = levels.shape
    return _corners(np.concatenate(rectangles, axis=1), width, height, box_end)


def add_prior_map(
    maps: np.ndarray, prior_map: np.ndarray, weight: float, normalisation: str = "minmax"
) -> np.ndarray:
    """(N, h, w) maps in 0..1 with `weight` times an (h, w) prior map added."""
    return np.stack([normalise(values, normalisation) for values in maps]) + weight * prior_map


def mean_map(maps: np.ndarray, normalisation: str = "minmax") -> np.ndarray:
    """The mean of (N, h, w) maps in 0..1: where objects are on average, as a network sees it."""
    return np.mean([normalise(values, normalisation) for values in maps], axis=0)


def _groups_of_masks(levels: np.ndarray) -> np.ndarray:
    """(257,) numbers, non-decreasing, of the masks of pixels above -1, 0, ..., 255.

    Masks with the same number have equally many contours. The pixels are added from the highest
    level down, row by row where levels are equal. A pixel whose neighbours in the mask make it
    simple changes no number of components or holes; each level with another pixel starts a new
    number.
    """
    padded = cv2.copyMakeBorder(levels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    height, width = levels.shape
    neighbours = np.zeros_like(levels)
    for bit, (down, right) in enumerate(AROUND):
        values = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        is_added = values >= levels if (down, right) < (0, 0) else values > levels
        neighbours |= is_added.view(np.uint8) << bit
    is_new = np.bincount(levels[_not_simple()[neighbours]], minlength=256) > 0
    is_new[0] = True  # beside pixels of level 0 the border looks like foreground
    return np.append(0, np.cumsum(is_new))


@functools.cache
def _not_simple() -> np.ndarray:
    """(256,) whether adding a pixel changes the number of 8-connected components or of holes.

    The index holds the neighbours in the mask, a bit each in the order of `AROUND`. A pixel is
    simple if the connectivity number of Yokoi et al. (1975) is one.
    """
    outside = 1 - (np.arange(256)[:, None] >> np.arange(8) & 1)
    sides, corners, next_sides = (np.roll(outside, -shift, axis=1)[:, ::2] for shift in range(3))
    return (sides - sides * corners * next_sides).sum(axis=1) != 1


def _above(profile: np.ndarray, thresholds: np.ndarray) -> tuple[list[int], list[int]]:
    """The first index of a (L,) profile above each threshold, and the index after the last one."""
    first = np.searchsorted(np.maximum.accumulate(profile), thresholds, side="right")
    from_end = np.searchsorted(np.maximum.accumulate(profile[::-1]), thresholds, side="right")
    return first.tolist(), (len(profile) - from_end).tolist()


def largest_contour_box(mask: np.ndarray) -> np.ndarray:
    """(4,) box of the largest contour of an (H, W) uint8 mask; (0, 0, 0, 0) for an empty one."""
    return contour_boxes(mask, np.array([0]))[0][0]


def centre_boxes(width: int, height: int, sides: np.ndarray) -> np.ndarray:
    """Centred boxes with sides as fractions of the image's: (S,) in (0, 1] -> (S, 4)."""
    size = np.array([width, height])
    extent = np.maximum(np.rint(sides[:, None] * size), 1).astype(int)
    start = (size - extent) // 2
    return np.concatenate([start, start + extent - 1], axis=1)
