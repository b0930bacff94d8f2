"""One rule chooses threshold, region and method: the most hits, of equal ones the first."""

import itertools

import numpy as np

from infocam.scoring.choice import best_candidate, best_position, best_regions, choices
from infocam.scoring.metrics import Curves

THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.4])


def curves_of(overlaps) -> Curves:
    overlaps = np.array(overlaps, float)
    return Curves(THRESHOLDS, overlaps, overlaps, *[np.ones(len(overlaps))] * 2)


def test_of_equal_thresholds_the_lowest_and_of_equal_candidates_the_first():
    equal = curves_of([[0, 0.7, 0, 0.7], [0, 0.7, 0.7, 0.7]])
    none = curves_of(np.zeros((3, 4)))
    assert (best_candidate({"a": equal, "b": equal}), best_position(equal)) == ("a", 1)
    assert (best_candidate({"a": none, "b": equal}), best_position(none)) == ("b", 0)
    # An overlap of just a half counts.
    assert best_position(curves_of([[0.49, 0.5, 0.9, 0.1]])) == 1


def test_every_choice_equals_a_search_through_all_thresholds_in_order():
    rng = np.random.default_rng(0)
    for _ in range(20):
        overlaps = rng.choice([0.2, 0.5, 0.8], (2, 3, 5, 4))  # ties are frequent
        methods, regions = ["infocam", "cam"], [5, 1, 3]
        validation = {
            (method, region): curves_of(overlaps[i, j])
            for (j, region), (i, method) in itertools.product(
                enumerate(regions), enumerate(methods)
            )
        }
        best = {}
        for i, method in enumerate(methods):
            for j in (1, 2, 0):  # regions in rising order
                for t in range(4):
                    hits = sum(overlap >= 0.5 for overlap in overlaps[i, j, :, t])
                    if hits > best.get(method, (-1,))[0]:
                        best[method] = hits, regions[j], THRESHOLDS[t]
        assert best_regions(validation) == {method: best[method][1] for method in methods}
        chosen = choices(validation)
        for method, (hits, region, threshold) in best.items():
            expected = {"region": region, "threshold": threshold, "validation_gt_known": hits / 5}
            assert chosen["methods"][method] == expected
        most = max(best["infocam"][0], best["cam"][0])
        assert chosen["best_method"] == ("infocam" if best["infocam"][0] == most else "cam")
        assert chosen["validation_images"] == 5


def test_the_random_method_is_never_the_best():
    hit, miss = curves_of([[0.9] * 4]), curves_of([[0.1] * 4])
    chosen = choices({("cam", 1): miss, ("random", 1): hit})
    assert chosen["best_method"] == "cam"
    assert chosen["methods"]["random"]["validation_gt_known"] == 1
    settings = choices({("cam", 1): miss}, {"cam": {"exponent": 4}, "infocam": {"exponent": 2}})
    of_cam = {"exponent": 4, "region": 1, "threshold": 0.1, "validation_gt_known": 0}
    assert settings["methods"] == {"cam": of_cam}
    assert choices({("random", 1): hit})["best_method"] is None
