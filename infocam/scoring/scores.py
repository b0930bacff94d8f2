"""From curves to the rows of the tables: three rules for the threshold, intervals, baselines.

    fixed       a given threshold
    validation  the best threshold on the validation images
    oracle      the best threshold on the test images themselves: an upper limit

Scores are fractions of one. Intervals are bootstrap intervals over images: the 2.5th and 97.5th
percentile over resampled sets. They treat the network and the threshold as fixed.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from infocam.scoring.choice import best_position, hit_rates
from infocam.scoring.metrics import IOU_HIT, V2_IOUS, Curves, ScoredMaps, centre_curves
from infocam.scoring.protocols import Protocol

INTERVALS = ("gt_known", "top1_loc", "top5_loc", "max_box_acc_v2", "pointing")
SCORES = (
    *("gt_known", "top1_loc", "top5_loc", "max_box_acc", "max_box_acc_v2"),
    *("pointing", "energy", "pxap", "peak_iou"),
)
RESAMPLES = 1000
HITS = "hits"  # the column of rows with (N,) bool, whether each image is boxed right; not written


@dataclass(frozen=True)
class Evaluation:
    """What is written of one run, or of saved maps."""

    rows: pd.DataFrame  # of results.csv, and `HITS`
    differences: pd.DataFrame  # of `paired.image_differences`
    chosen: dict | None  # of `choice.choices`; None without validation images
    by_object: pd.DataFrame | None = None  # of `objects.object_rows`; None for saved maps
    # Of a run's test images, for tables over seeds; None for saved maps: see `score_rows` and
    # `objects.object_properties`.
    ranks: np.ndarray | None = None
    weights: np.ndarray | None = None
    properties: dict[str, np.ndarray] | None = None


def score_rows(
    curves: Curves,
    *,
    ranks: np.ndarray | None,
    weights: np.ndarray,
    validation: Curves | None,
    fixed: float | None,
) -> Iterator[dict]:
    """A row of scores with intervals, and of `HITS`, for each threshold rule that has its input.

    Args:
        curves: of the N test images.
        ranks: (N,) how many classes have a larger logit than the label; None without logits.
        weights: (N,) of the images in an average, summing to one.
        validation: curves of the validation images, for the rule `validation`.
        fixed: a threshold for the rule `fixed`, rounded down to a threshold of the protocol.
    """
    positions = {}
    if fixed is not None:
        positions["fixed"] = int(np.searchsorted(curves.thresholds, fixed, side="right")) - 1
    if validation is not None:
        positions["validation"] = best_position(validation)
    hits = curves.largest >= IOU_HIT
    accuracy = weights @ hits
    positions["oracle"] = int(accuracy.argmax())
    counts = resampled(len(weights)) * (weights * len(weights))
    total = counts.sum(axis=1)
    any_hits = [curves.any_contour >= iou for iou in V2_IOUS]
    v2 = np.mean([(weights @ hit).max() for hit in any_hits])
    v2_draws = np.mean([(counts @ hit).max(axis=1) / total for hit in any_hits], axis=0)
    shared = {"max_box_acc": accuracy.max(), "max_box_acc_v2": v2}
    shared |= {"pxap": curves.pxap, "peak_iou": curves.peak_iou}
    known = np.isfinite(curves.energy)  # a constant map has none
    shared["energy"] = weights[known] @ curves.energy[known] / max(weights[known].sum(), 1e-12)
    for rule, position in positions.items():
        values = {"gt_known": hits[:, position], "pointing": curves.pointing}
        for k in (1, 5):
            in_top_k = ranks < k if ranks is not None else np.full(len(hits), np.nan)
            values[f"top{k}_loc"] = in_top_k * hits[:, position]
        row = dict(shared)
        draws = {"max_box_acc_v2": v2_draws}
        for name, value in values.items():
            row[name] = weights @ value
            draws[name] = counts @ value.astype(np.float32) / total
        for name in INTERVALS:
            row[f"{name}_low"], row[f"{name}_high"] = np.percentile(draws[name], (2.5, 97.5))
        # Rounded, because the order of a sum changes its last digits.
        row = {name: round(float(value), 12) for name, value in row.items()}
        described = {"threshold_rule": rule, "threshold": curves.thresholds[position]}
        if rule == "validation":
            described["validation_gt_known"] = float(hit_rates(validation)[position])
        yield described | row | {HITS: hits[:, position]}


@functools.cache
def resampled(count: int) -> np.ndarray:
    """(RESAMPLES, count) how often each image is drawn; the same in each call."""
    generator = np.random.default_rng(0)
    draws = generator.integers(count, size=(RESAMPLES, count))
    flat = draws + count * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(flat.ravel(), minlength=RESAMPLES * count)
    return counts.reshape(RESAMPLES, count).astype(np.float32)


def baseline_rows(
    test: tuple[Sequence[np.ndarray], np.ndarray],
    validation: tuple[Sequence[np.ndarray], np.ndarray] | None,
    protocol: Protocol,
    *,
    ranks: np.ndarray | None,
    weights: np.ndarray,
    misread: bool = False,
) -> Iterator[dict]:
    """Rows of the whole image and of the centre box, whose side is chosen as thresholds are.

    `test` are true boxes and sizes of the images, `validation` those of the validation images;
    `ranks` and `weights`: see `score_rows`; `misread`: see `Protocol.truths`.
    """
    steps = protocol.frame or 100
    sides = (1 + np.arange(steps)) / steps
    options = {"ranks": ranks, "weights": weights, "fixed": None}
    described = {"region": 1, "region_rule": "off"}
    whole = centre_curves(sides[-1:], *test, protocol, misread=misread)
    for row in score_rows(whole, validation=None, **options):
        yield {"method": "whole-image"} | described | row | {"threshold_rule": "none"}
    centre, validation_curves = (
        part and centre_curves(sides, *part, protocol, misread=misread)
        for part in (test, validation)
    )
    for row in score_rows(centre, validation=validation_curves, **options):
        yield {"method": "centre-box"} | described | row


def method_rows(
    test: ScoredMaps, validation: ScoredMaps, weights: np.ndarray, *, fixed: float
) -> Iterator[dict]:
    """Rows of each method and region on the test images; see `score_rows` for the arguments."""
    options = {"ranks": test.ranks, "weights": weights, "fixed": fixed}
    for (method, region), curves in test.curves.items():
        rule = "off" if region == 1 else "fixed"
        for row in score_rows(curves, validation=validation.curves[method, region], **options):
            yield {"method": method, "region": region, "region_rule": rule} | row


def with_best_regions(rows: pd.DataFrame, regions: dict[str, int]) -> pd.DataFrame:
    """Adds a copy of the rows of each method's best region, with `region_rule` "validation"."""
    best = [
        rows[(rows["method"] == method) & (rows["region"] == size)].assign(region_rule="validation")
        for method, size in regions.items()
    ]
    return pd.concat([rows, *best], ignore_index=True)


def curve_table(test: ScoredMaps, validation: ScoredMaps) -> pd.DataFrame:
    """GT-known and top-1 localisation of each method and region at each threshold."""
    tables = []
    for (method, region), curves in test.curves.items():
        hits = curves.largest >= IOU_HIT
        validation_hits = validation.curves[method, region].largest >= IOU_HIT
        columns = {
            "method": method,
            "region": region,
            "threshold": curves.thresholds,
            "gt_known": hits.mean(axis=0),
            "validation_gt_known": validation_hits.mean(axis=0),
            "top1_loc": (hits & (test.ranks == 0)[:, None]).mean(axis=0),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
