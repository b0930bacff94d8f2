"""How maps become boxes, chosen on validation images by one rule.

The candidate with the most hits on the validation images, at its best threshold, is chosen, and the
first of several (`choice.best_candidate`). So are chosen the region, the exponent of propagated
maps, and, one after the other, the weights of the prior map and of the adaptive threshold.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from infocam.localise import SplitMaps, score_maps
from infocam.maps.cam import propagated
from infocam.names import MEAN_MAP, PROPAGATED, TWICE
from infocam.scoring.boxes import BoxOptions, add_prior_map
from infocam.scoring.choice import best_candidate
from infocam.scoring.metrics import Curves, Evaluator
from infocam.scoring.tables import EARLIER
from mi_common.image_sets import ImageSet

MEAN_WEIGHTS = (0, 0.25, 0.5, 0.75)  # candidates of the adaptive threshold
Grid = dict[str, tuple]  # candidates by field of `BoxOptions`
Key = tuple[str, int]  # method and region


def box_grids(
    prior_weights: tuple[float, ...] | None, threshold_rule: str, box_rule: str
) -> dict[str, Grid]:
    """The candidates of each requested option alone, and of all together, by name.

    Args:
        prior_weights: of the prior map; None without it.
        threshold_rule, box_rule: of `names.THRESHOLD_RULES` and `names.BOX_RULES`.
    """
    grids: dict[str, Grid] = {}
    if box_rule != "largest":
        grids[f"{box_rule} box"] = {"box_rule": (box_rule,)}
    if prior_weights is not None:
        grids["prior map"] = {"prior_weight": prior_weights}
    if threshold_rule == "adaptive":
        grids["adaptive threshold"] = {"mean_weight": MEAN_WEIGHTS}
    if len(grids) > 1:
        together = {field: values for grid in grids.values() for field, values in grid.items()}
        grids[", ".join(grids)] = together
    return grids


def keep_best_exponents(
    maps_by_split: dict[str, SplitMaps],
    curves: dict[str, dict[Key, Curves]],
    methods: list[str],
    exponents: tuple[float, ...],
    earlier_exponents: tuple[float, ...] = (),
) -> tuple[dict[str, SplitMaps], dict[str, dict[Key, Curves]], dict[str, dict[str, float]]]:
    """Chooses the exponents of each method's propagated maps on validation images.

    Returns maps and curves by split, in which the maps of the best exponent, named `propagated
    METHOD`, replace those of all exponents; and the best exponents by that name. The two exponents
    of maps that are propagated twice, `twice propagated METHOD`, are chosen together.
    """
    steps = {PROPAGATED: [(exponent,) for exponent in exponents]}
    if earlier_exponents:
        steps[TWICE + PROPAGATED] = list(itertools.product(exponents, earlier_exponents))
    best, best_keys, candidate_keys = {}, {}, set()
    for (prefix, candidates), method in itertools.product(steps.items(), methods):
        keys = {numbers: (propagated(method, *numbers), 1) for numbers in candidates}
        numbers = best_candidate({n: curves["validation"][key] for n, key in keys.items()})
        best[prefix + method] = dict(zip(("exponent", EARLIER), numbers, strict=False))
        best_keys[prefix + method, 1] = keys[numbers]
        candidate_keys |= set(keys.values())

    def with_best_only(by_key: dict) -> dict:
        others = {key: value for key, value in by_key.items() if key not in candidate_keys}
        return others | {name: by_key[key] for name, key in best_keys.items()}

    maps_by_split = {
        split: replace(of_split, maps=with_best_only(of_split.maps))
        for split, of_split in maps_by_split.items()
    }
    curves = {split: with_best_only(of_split) for split, of_split in curves.items()}
    return maps_by_split, curves, best


def refined_curves(
    maps: dict[str, np.ndarray],
    plain: dict[str, Curves],
    sets: dict[str, ImageSet],
    grids: dict[str, Grid],
    evaluator: Callable[..., Evaluator],
    *,
    prior_map: np.ndarray | None,
    normalisation: str,
) -> dict[str, tuple[BoxOptions, dict[str, Curves]]]:
    """By name of each grid, the options that are best on validation images, and curves by split.

    Args:
        maps: (N, h, w) of one method by split.
        plain: the curves by split without any option.
        grids: of `box_grids`; options are chosen in the order of a grid.
        evaluator: makes an `Evaluator` for `box_options`.
        prior_map: (h, w); None if no grid has weights of it.
    """
    scored = {(split, BoxOptions()): curves for split, curves in plain.items()}

    def score(split: str, candidates: list[BoxOptions]) -> dict[BoxOptions, Curves]:
        changed = {
            options: add_prior_map(maps[split], prior_map, options.prior_weight, normalisation)
            if options.prior_weight
            else maps[split]
            for options in candidates
            if (split, options) not in scored
        }
        if changed:
            evaluators = {options: evaluator(box_options=options) for options in changed}
            curves = score_maps(changed, sets[split], evaluators, label=f"{split} boxes")
            scored.update({(split, options): of_options for options, of_options in curves.items()})
        return {options: scored[split, options] for options in candidates}

    refined = {}
    for name, grid in grids.items():
        best = BoxOptions()
        for field, values in grid.items():
            candidates = [replace(best, **{field: value}) for value in values]
            best = best_candidate(score("validation", candidates))
        refined[name] = best, {split: score(split, [best])[best] for split in maps}
    return refined


def mean_map_curves(
    prior_maps: dict[str, np.ndarray], images: ImageSet, evaluator: Callable[..., Evaluator]
) -> dict[Key, Curves]:
    """The curves of the (h, w) prior map of each method alone, the same map for each image."""
    maps = {
        (MEAN_MAP + method, 1): np.broadcast_to(prior_map, (len(images), *prior_map.shape))
        for method, prior_map in prior_maps.items()
    }
    evaluators = {key: evaluator() for key in maps}
    return score_maps(maps, images, evaluators, label="boxes of mean maps")
