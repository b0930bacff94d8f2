"""Localisation scores from boxes; fractions of one.

A hit is an intersection over union of at least 0.5 with any true box of the image.

    gt_known      share of hits, the label being given
    top1_loc      share of hits on images whose predicted class is right too
    max_box_acc   gt_known at the threshold that is best on the reported images (Choe et al. 2020)
"""

from dataclasses import dataclass

import numpy as np

IOU_HIT = 0.5


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes of inclusive pixels: (N, 4) and (M, 4) -> (N, M).

    Disjoint boxes have 0.
    """
    a, b = a[:, None].astype(float), b[None].astype(float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    intersection = np.maximum(high - low + 1, 0).prod(axis=-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2] + 1).prod(axis=-1) for box in (a, b))
    return intersection / (area_a + area_b - intersection)


def hits(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Whether each of (T, 4) boxes hits one of the (M, 4) true boxes of the image: (T,) bool."""
    return (box_iou(boxes, truths) >= IOU_HIT).any(axis=1)


@dataclass(frozen=True)
class Scores:
    """A line of the table: one method under one rule for the threshold."""

    method: str
    threshold_rule: str
    threshold: float
    gt_known: float
    top1_loc: float
    max_box_acc: float
    n_images: int


def best_threshold(hit: np.ndarray) -> int:
    """Position of the threshold with the most hits in (N, T); the lowest of equals."""
    return int(hit.mean(axis=0).argmax())


def scores(
    method: str,
    hit: np.ndarray,
    held_out_hit: np.ndarray,
    correct: np.ndarray,
    thresholds: np.ndarray,
) -> list[Scores]:
    """Scores with the threshold chosen on held-out images, and with the oracle's.

    Args:
        hit: (N, T) hits of the reported images at each threshold.
        held_out_hit: (M, T) hits of the held-out images.
        correct: (N,) bool, whether the predicted class is the label.
        thresholds: (T,) values; a single one leaves nothing to choose.

    Returns:
        Two lines, `held-out` and `oracle`, or one, `none`, for a single threshold.
    """
    rules = {"held-out": best_threshold(held_out_hit), "oracle": best_threshold(hit)}
    if len(thresholds) == 1:
        rules = {"none": 0}
    return [
        Scores(
            method,
            rule,
            float(thresholds[chosen]),
            float(hit[:, chosen].mean()),
            float((hit[:, chosen] & correct).mean()),
            float(hit.mean(axis=0).max()),
            len(hit),
        )
        for rule, chosen in rules.items()
    ]
