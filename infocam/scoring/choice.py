"""What validation images choose, by one rule: threshold, region, option and method."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from infocam.names import RANDOM
from infocam.scoring.metrics import IOU_HIT, Curves

RULE = (
    f"the most validation images whose box has an IoU of at least {IOU_HIT} with a true one; "
    "of equal ones the first candidate, the smallest region and the lowest threshold"
)
Candidate = TypeVar("Candidate")


def hit_rates(curves: Curves) -> np.ndarray:
    """(T,) share of images whose box hits, at each threshold."""
    return (curves.largest >= IOU_HIT).mean(axis=0)


def best_position(curves: Curves) -> int:
    """Index of the threshold with the most hits; the lowest if several."""
    return int(hit_rates(curves).argmax())


def best_candidate(candidates: Mapping[Candidate, Curves]) -> Candidate:
    """The candidate with the most hits at its best threshold; the first if several.

    `candidates` holds the curves of each on the validation images.
    """
    return max(candidates, key=lambda candidate: float(hit_rates(candidates[candidate]).max()))


def best_regions(curves: Mapping[tuple[str, int], Curves]) -> dict[str, int]:
    """The region of each method, by name, of validation curves by method and region."""
    candidates: dict[str, dict[int, Curves]] = {}
    for (method, region), of_region in sorted(curves.items(), key=lambda item: item[0]):
        candidates.setdefault(method, {})[region] = of_region
    return {method: best_candidate(of_method) for method, of_method in candidates.items()}


def choices(
    validation: Mapping[tuple[str, int], Curves], settings: Mapping[str, dict] | None = None
) -> dict:
    """What `RULE` chooses for each method, and the best of all methods but the random one.

    Args:
        validation: curves by method and region, methods in the order in which equal ones win.
        settings: what else was chosen for a method, to be named beside region and threshold.
    """
    regions, chosen, candidates = best_regions(validation), {}, {}
    for method in dict.fromkeys(method for method, _ in validation):
        curves = validation[method, regions[method]]
        if method != RANDOM:
            candidates[method] = curves
        rates, position = hit_rates(curves), best_position(curves)
        chosen[method] = (settings or {}).get(method, {}) | {
            "region": regions[method],
            "threshold": float(curves.thresholds[position]),
            "validation_gt_known": float(rates[position]),
        }
    count = len(next(iter(validation.values())).largest)
    best = best_candidate(candidates) if candidates else None
    return {"validation_images": count, "best_method": best, "methods": chosen}
