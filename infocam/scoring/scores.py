"""From curves to the rows of the tables: three rules for the threshold, intervals, baselines.

    fixed       a threshold that was given
    held-out    the one that is best on held-out images, disjoint from the reported ones
    oracle      the one that is best on the reported images themselves: an upper limit

Scores are fractions of one. Intervals are of the bootstrap over images: the 2.5th and 97.5th
percentile over resampled sets; they hold the network and the choice of the threshold fixed.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from infocam.localise import Localised
from infocam.scoring.metrics import IOU_HIT, V2_IOUS, Curves, centre_curves
from infocam.scoring.protocols import Protocol

INTERVALS = ("gt_known", "top1_loc", "top5_loc", "max_box_acc_v2", "pointing")
SCORES = (
    *("gt_known", "top1_loc", "top5_loc", "max_box_acc", "max_box_acc_v2"),
    *("pointing", "energy", "pxap", "peak_iou"),
)
RESAMPLES = 1000


def best_position(curves: Curves) -> int:
    """Position of the threshold with the most hits by the largest contour; the lowest of equals."""
    return int((curves.largest >= IOU_HIT).mean(axis=0).argmax())


def score_rows(
    curves: Curves,
    *,
    ranks: np.ndarray | None,
    weights: np.ndarray,
    held_out: Curves | None,
    fixed: float | None,
) -> Iterator[dict]:
    """A row of scores, with intervals, for each rule that can be followed.

    Args:
        ranks: (N,) how many classes have a larger logit than the label; None where no logits are.
        weights: (N,) of the images in an average, summing to one.
        held_out: curves of held-out images, for the rule of that name.
        fixed: a threshold, for the rule of that name; the protocol's next lower one is taken.
    """
    positions = {}
    if fixed is not None:
        positions["fixed"] = int(np.searchsorted(curves.thresholds, fixed, side="right")) - 1
    if held_out is not None:
        positions["held-out"] = best_position(held_out)
    hits = curves.largest >= IOU_HIT
    accuracy = weights @ hits
    positions["oracle"] = int(accuracy.argmax())
    counts = resampled(len(weights)) * (weights * len(weights))
    total = counts.sum(axis=1)
    any_hits = [curves.every >= iou for iou in V2_IOUS]
    v2 = np.mean([(weights @ hit).max() for hit in any_hits])
    v2_draws = np.mean([(counts @ hit).max(axis=1) / total for hit in any_hits], axis=0)
    shared = {"max_box_acc": accuracy.max(), "max_box_acc_v2": v2}
    shared |= {"pxap": curves.pxap, "peak_iou": curves.peak_iou}
    known = np.isfinite(curves.energy)  # a constant map has none
    shared["energy"] = weights[known] @ curves.energy[known] / max(weights[known].sum(), 1e-12)
    for rule, position in positions.items():
        values = {"gt_known": hits[:, position], "pointing": curves.pointing}
        for k in (1, 5):
            right = ranks < k if ranks is not None else np.full(len(hits), np.nan)
            values[f"top{k}_loc"] = right * hits[:, position]
        row = dict(shared)
        draws = {"max_box_acc_v2": v2_draws}
        for name, value in values.items():
            row[name] = weights @ value
            draws[name] = counts @ value.astype(np.float32) / total
        for name in INTERVALS:
            row[f"{name}_low"], row[f"{name}_high"] = np.percentile(draws[name], (2.5, 97.5))
        # Sums of weights in another order differ in the last digits; equal shares must not.
        row = {name: round(float(value), 12) for name, value in row.items()}
        yield {"threshold_rule": rule, "threshold": curves.thresholds[position], **row}


@functools.cache
def resampled(count: int) -> np.ndarray:
    """(RESAMPLES, count) how often each image is drawn, the same at each call."""
    generator = np.random.default_rng(0)
    draws = generator.integers(count, size=(RESAMPLES, count))
    flat = draws + count * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(flat.ravel(), minlength=RESAMPLES * count)
    return counts.reshape(RESAMPLES, count).astype(np.float32)


def with_best_region(rows: pd.DataFrame, chosen: dict[str, int]) -> pd.DataFrame:
    """Adds the rows of the region that held-out images choose, as `region_rule` "held-out".

    Args:
        rows: of one run, `region_rule` "off" where `region` is 1 and "fixed" elsewhere.
        chosen: side of the region by method.
    """
    best = [
        rows[(rows["method"] == method) & (rows["region"] == size)].assign(region_rule="held-out")
        for method, size in chosen.items()
    ]
    return pd.concat([rows, *best], ignore_index=True)


def baseline_rows(
    annotated: dict[str, tuple[Sequence[np.ndarray], np.ndarray]],
    protocol: Protocol,
    *,
    ranks: np.ndarray | None,
    weights: np.ndarray,
    misread: bool = False,
) -> Iterator[dict]:
    """Rows of the whole image and of the centre box, whose size follows the rules of thresholds.

    Args:
        annotated: true boxes and image sizes of "test" and, where there are any, "held-out".
        ranks, weights: see `score_rows`.
        misread: see `Protocol.truths`.
    """
    steps = protocol.frame or 100
    sides = (1 + np.arange(steps)) / steps
    for method, own in (("whole-image", sides[-1:]), ("centre-box", sides)):
        curves = {
            part: centre_curves(own, *where, protocol, misread=misread)
            for part, where in annotated.items()
        }
        whole = method == "whole-image"
        held_out = None if whole else curves.get("held-out")
        options = {"ranks": ranks, "weights": weights, "held_out": held_out, "fixed": None}
        for row in score_rows(curves["test"], **options):
            rule = {"threshold_rule": "none"} if whole else {}
            yield {"method": method, "region": 1, "region_rule": "off"} | row | rule


def method_rows(
    found: dict[str, Localised], weights: np.ndarray, *, fixed: float
) -> Iterator[dict]:
    """Rows of each method and region of the test part, thresholds from the held-out part."""
    test = found["test"]
    for (method, region), curves in test.curves.items():
        name = {"method": method, "region": region}
        name["region_rule"] = "off" if region == 1 else "fixed"
        for row in score_rows(
            curves,
            ranks=test.ranks,
            weights=weights,
            held_out=found["held-out"].curves[method, region],
            fixed=fixed,
        ):
            yield name | row


def best_region(held_out: Localised) -> dict[str, int]:
    """The region with the most hits on held-out images, each at its best threshold, by method."""
    best: dict[str, tuple[float, int]] = {}
    for (method, region), curves in sorted(held_out.curves.items()):
        accuracy = float((curves.largest >= IOU_HIT).mean(axis=0).max())
        if method not in best or accuracy > best[method][0]:
            best[method] = accuracy, region
    return {method: region for method, (_, region) in best.items()}


def curve_table(test: Localised, held_out: Localised) -> pd.DataFrame:
    """GT-known and top-1 localisation of each method and region at each threshold."""
    tables = []
    for (method, region), curves in test.curves.items():
        hits = curves.largest >= IOU_HIT
        other = held_out.curves[method, region].largest >= IOU_HIT
        columns = {"method": method, "region": region, "threshold": curves.thresholds}
        columns |= {"gt_known": hits.mean(axis=0), "held_out_gt_known": other.mean(axis=0)}
        columns["top1_loc"] = (hits & (test.ranks == 0)[:, None]).mean(axis=0)
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
