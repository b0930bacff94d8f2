"""Localisation scores of maps: accumulate images, then compute.

    evaluator = Evaluator(PROTOCOLS["wsol"])
    evaluator.accumulate(maps, boxes, sizes)         # once or more
    curves = evaluator.compute()
    gt_known = (curves.largest >= 0.5).mean(axis=0)  # at each of curves.thresholds

A hit is an intersection over union (IoU) of at least 0.5 with any true box of the image.

    GT-known loc.    share of hits, for maps of the true label
    top-k loc.       share of images that are hits and whose label is among the k largest logits
    MaxBoxAcc        GT-known localisation of the largest contour's box, at the threshold that is
                     best on the test images (Choe et al. 2020)
    MaxBoxAccV2      the same for the best box of any contour: mean over IoU 0.3, 0.5 and 0.7, each
                     at its best threshold
    PxAP             area under the precision-recall curve of pixels against masks (Choe et al.
                     2020)
    peak IoU         intersection over union of pixels at the best threshold
    pointing game    share of images whose map is largest inside a true box (Zhang et al. 2016)
    energy           share of the 0..1 map that lies inside the true boxes (Wang et al. 2020)
"""

import functools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from infocam.data.masks import FOREGROUND
from infocam.scoring.boxes import (
    BoxOptions,
    centre_boxes,
    normalise,
    resize_map,
    threshold_boxes,
)
from infocam.scoring.protocols import Protocol
from mi_common.errors import UserError

IOU_HIT = 0.5
V2_IOUS = (0.3, 0.5, 0.7)
CHUNK = 50  # images that a worker process gets at once


def box_iou(a: np.ndarray, b: np.ndarray, *, clamp: bool = True) -> np.ndarray:
    """Intersection over union of boxes of inclusive pixels: (N, 4) and (M, 4) -> (N, M).

    Disjoint boxes have 0. Without `clamp`, as in the original code, the intersection of two boxes
    that are apart in both directions is the product of two negative numbers.
    """
    a, b = a[:, None].astype(float), b[None].astype(float)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    intersection = (np.maximum(sides, 0) if clamp else sides).prod(axis=-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2] + 1).prod(axis=-1) for box in (a, b))
    return intersection / (area_a + area_b - intersection)


@dataclass(frozen=True)
class Curves:
    """Overlaps and scores by image and threshold."""

    thresholds: np.ndarray  # (T,) fractions of the map's maximum; for a centred box, sides of it
    # (N, T) IoU of the box by the box rule, such as the largest contour's, with the best true box
    largest: np.ndarray
    any_contour: np.ndarray  # (N, T) the best IoU of any contour's box with any true box
    pointing: np.ndarray  # (N,) whether the map's largest value lies inside a true box
    energy: np.ndarray  # (N,) share of the map inside the true boxes; NaN for a map of zeros
    # (P,) of pixels at falling thresholds; None without masks.
    precision: np.ndarray | None = None
    recall: np.ndarray | None = None
    pixel_iou: np.ndarray | None = None

    @property
    def pxap(self) -> float:
        """Pixel average precision; NaN without masks."""
        if self.precision is None:
            return float("nan")
        return float((self.precision * np.diff(self.recall, prepend=0)).sum())

    @property
    def peak_iou(self) -> float:
        """Intersection over union of pixels at the best threshold; NaN without masks."""
        return float("nan") if self.pixel_iou is None else float(self.pixel_iou.max())


@dataclass(frozen=True)
class ScoredMaps:
    """Maps of one part of a data set with their scores, and the network's predictions."""

    curves: dict[tuple[str, int], Curves]  # by method and side of the region filter
    maps: dict[str, np.ndarray]  # (N, h, w) float32 by method, without region filter
    predictions: np.ndarray  # (N,) the class with the largest logit
    ranks: np.ndarray  # (N,) how many classes have a larger logit than the label


class Evaluator:
    """Accumulates maps of one method under one protocol."""

    def __init__(
        self,
        protocol: Protocol,
        *,
        normalisation: str = "minmax",
        box_options: BoxOptions = BoxOptions(),  # noqa: B008 (it cannot change)
        misread: bool = False,
        workers: Executor | None = None,
    ):
        """`misread`: see `Protocol.truths`; `workers`: processes that share the images."""
        self.protocol, self.workers = protocol, workers
        self.options = {"normalisation": normalisation, "misread": misread}
        self.options["box_options"] = box_options
        self.scored: list[tuple] = []

    def accumulate(
        self,
        maps: np.ndarray | Sequence[np.ndarray],
        boxes: Sequence[np.ndarray],
        sizes: np.ndarray,
        masks: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Adds images.

        Args:
            maps: (B, h, w) floats of any resolution, or a list of (h, w).
            boxes: an (M, 4) array per image, in pixels of the image, M at least 1.
            sizes: (B, 2) width and height of the images.
            masks: (H, W) uint8 per image: 1 foreground, 0 background, 255 ignored.
        """
        masks = [None] * len(maps) if masks is None else masks
        images = list(zip(maps, boxes, sizes, masks, strict=True))
        score = functools.partial(_score_image, protocol=self.protocol, **self.options)
        if self.workers is None:
            self.scored += map(score, images)
        else:
            self.scored += self.workers.map(score, images, chunksize=CHUNK)

    def compute(self) -> Curves:
        """The curves of all images, in their order; UserError for masks without foreground."""
        largest, any_contour, pointing, energy, histograms = zip(*self.scored, strict=True)
        pixels = {} if histograms[0] is None else _pixel_curves(np.sum(histograms, axis=0))
        stacked = np.stack(largest), np.stack(any_contour), np.array(pointing), np.array(energy)
        return Curves(self.protocol.thresholds, *stacked, **pixels)


def _score_image(
    image: tuple,
    *,
    protocol: Protocol,
    normalisation: str,
    box_options: BoxOptions,
    misread: bool,
) -> tuple:
    """Of one image: (T,) largest and any_contour, pointing, energy, (2, P) pixel counts or None."""
    values, boxes, size, mask = image
    width, height = protocol.size(size)
    scores = normalise(resize_map(values, width, height), normalisation)
    truths = protocol.truths(boxes, size, misread=misread)
    levels = protocol.levels((scores * 255).astype(np.uint8))
    boxes, contours, starts = threshold_boxes(
        levels, scores, protocol.thresholds, box_options, box_end=protocol.box_end
    )
    largest, best = (_best_iou(predicted, truths, protocol) for predicted in (boxes, contours))
    first, mask_of_start = np.unique(starts, return_inverse=True)
    any_contour = np.maximum.reduceat(best, first)[mask_of_start.reshape(starts.shape)[:, 0]]
    inside = _inside(truths, width, height)
    pointing = bool(inside.flat[scores.argmax()]) and bool(scores.any())
    total = float(scores.sum())
    energy = float(scores[inside].sum()) / total if total > 0 else float("nan")
    histogram = None if mask is None else _pixel_counts(scores, mask, protocol.steps)
    return largest, any_contour, pointing, energy, histogram


def _best_iou(boxes: np.ndarray, truths: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(R,) float32 overlaps of (R, 4) boxes with the best of (M, 4) true ones."""
    return box_iou(boxes, truths, clamp=not protocol.legacy).max(axis=1).astype(np.float32)


def predicted_box(
    values: np.ndarray,
    size: np.ndarray,
    threshold: float,
    protocol: Protocol,
    *,
    normalisation: str = "minmax",
) -> np.ndarray:
    """(4,) int box of an (h, w) map's largest contour at a threshold, in pixels of the image."""
    frame, size = np.array(protocol.size(size)), np.asarray(size)
    scores = normalise(resize_map(values, *frame.tolist()), normalisation)
    levels = protocol.levels((scores * 255).astype(np.uint8))
    ((box,), _, _) = threshold_boxes(levels, scores, np.array([threshold]), BoxOptions())
    start, end = box[:2], box[2:] + 1
    return np.concatenate([start * size // frame, -(-end * size // frame) - 1])


def _inside(truths: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) bool: the pixels inside any of (M, 4) boxes of inclusive pixels."""
    inside = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in np.rint(truths).astype(int).clip(0):
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return inside


def _pixel_counts(scores: np.ndarray, mask: np.ndarray, steps: int) -> np.ndarray:
    """(2, steps + 1) counts of background and foreground pixels by score.

    Each threshold starts a bin; the last bin holds the scores of exactly one.
    """
    mask = cv2.resize(mask, scores.shape[::-1], interpolation=cv2.INTER_NEAREST)
    edges = np.append(np.arange(steps) / steps, 1.0)
    bins = np.searchsorted(edges, scores, side="right") - 1
    counts = [np.bincount(bins[mask == value], minlength=steps + 1) for value in (0, FOREGROUND)]
    return np.stack(counts)


def _pixel_curves(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and IoU at falling thresholds from (2, P) pixel counts."""
    false_positive, true_positive = counts[:, ::-1].cumsum(axis=1).astype(float)
    positive = true_positive[-1]
    if positive == 0:
        raise UserError("the masks have no foreground pixel")
    kept = true_positive + false_positive > 0
    true_positive, false_positive = true_positive[kept], false_positive[kept]
    return {
        "precision": true_positive / (true_positive + false_positive),
        "recall": true_positive / positive,
        "pixel_iou": true_positive / (positive + false_positive),
    }


def centre_curves(
    sides: np.ndarray, boxes: Sequence, sizes: np.ndarray, protocol: Protocol, *, misread=False
) -> Curves:
    """Curves of centred boxes: the baselines "centre box" and, at side 1, "whole image".

    The pointing game points at the image's centre. The energy is that of a constant map.

    `sides`, (T,), are those of the boxes as fractions of the image's sides.
    """
    largest, pointing, energy = [], [], []
    for image_boxes, size in zip(boxes, sizes, strict=True):
        width, height = protocol.size(size)
        truths = protocol.truths(image_boxes, size, misread=misread)
        centred = centre_boxes(width, height, sides)
        largest.append(box_iou(centred, truths, clamp=not protocol.legacy).max(axis=1))
        inside = _inside(truths, width, height)
        pointing.append(inside[height // 2, width // 2])
        energy.append(inside.mean())
    largest = np.stack(largest).astype(np.float32)
    return Curves(sides, largest, largest, np.array(pointing), np.array(energy))
