"""Paired differences over images, by hand and against the formulas of bootstrap and McNemar."""

import math

import numpy as np
import pandas as pd
import pytest

from infocam.scoring.paired import image_differences
from infocam.scoring.scores import HITS, RESAMPLES

CAM = np.array([1, 1, 0, 0, 0, 1, 0, 0], bool)
INFOCAM = np.array([1, 0, 1, 1, 1, 1, 1, 0], bool)
CENTRE = np.array([0, 0, 0, 0, 1, 0, 0, 0], bool)
RANKS = np.array([0, 0, 0, 3, 0, 1, 0, 2])
EQUAL = np.full(8, 1 / 8)


def row(method: str, hits: np.ndarray, rule="validation", region_rule="off") -> dict:
    return {"method": method, "region_rule": region_rule, "threshold_rule": rule, HITS: hits}


ROWS = pd.DataFrame(
    [
        row("whole-image", CENTRE, "none"),
        *(row("centre-box", CENTRE, rule) for rule in ("validation", "oracle")),
        *(row("cam", CAM, rule) for rule in ("fixed", "validation")),
        *(row("infocam", INFOCAM, rule) for rule in ("fixed", "validation")),
        row("infocam", CAM, "validation", "fixed"),
        row("infocam", ~CAM, "validation", "validation"),
    ]
)


def slow_mcnemar(won: int, lost: int) -> float:
    """Twice the smaller tail of fair coins, at most one."""
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    return min(1, 2 * tail)


def test_pairs_are_those_with_equal_rules_and_counts_are_right():
    table = image_differences(ROWS, ranks=RANKS, weights=EQUAL)
    assert table[["method", "region_rule", "threshold_rule"]].values.tolist() == [
        ["infocam - cam", "off", "fixed"],
        ["infocam - cam", "off", "validation"],
        ["cam - centre-box", "off", "validation"],
        ["infocam - centre-box", "off", "validation"],
    ]
    assert table["n"].tolist() == [8] * 4
    assert table["won"].tolist() == [4, 4, 3, 5]
    assert table["lost"].tolist() == [1, 1, 1, 0]
    assert table["gt_known"].tolist() == [3 / 8, 3 / 8, 2 / 8, 5 / 8]
    # Only images 0, 1, 2, 4 and 6 have their label on top: won 2, 4, 6, lost 1.
    assert table["top1_loc"].tolist() == [2 / 8, 2 / 8, 1 / 8, 3 / 8]
    expected = [slow_mcnemar(*pair) for pair in ((4, 1), (4, 1), (3, 1), (5, 0))]
    assert table["p"].tolist() == pytest.approx(expected)
    assert expected[3] == 2 / 32


def test_intervals_are_those_of_resampled_images():
    weights = np.array([0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    draws = np.random.default_rng(0).integers(8, size=(RESAMPLES, 8))
    for used in (EQUAL, weights):
        line = image_differences(ROWS, ranks=RANKS, weights=used).iloc[1]
        for name, kept in (("gt_known", np.ones(8)), ("top1_loc", RANKS == 0)):
            change = (INFOCAM.astype(float) - CAM) * kept
            means = [(used[d] * change[d]).sum() / used[d].sum() for d in draws]
            low, high = np.percentile(means, (2.5, 97.5))
            expected = [used @ change, low, high]
            columns = [name, f"{name}_low", f"{name}_high"]
            assert line[columns].tolist() == pytest.approx(expected, abs=1e-6)


def test_equal_hits_have_no_difference_and_no_ranks_no_top_1():
    rows = pd.DataFrame([row("cam", CAM), row("infocam", CAM)])
    (line,) = image_differences(rows, ranks=None, weights=EQUAL).to_dict("records")
    assert (line["gt_known"], line["gt_known_low"], line["gt_known_high"]) == (0, 0, 0)
    assert (line["won"], line["lost"], line["p"]) == (0, 0, 1)
    assert "top1_loc" not in line


def test_refined_methods_are_compared_with_the_plain_one():
    plain = ["infocam", "cam", "similar"]
    refined = ["propagated similar", "similar, mean box", "propagated cam, prior map, mean box"]
    rows = pd.DataFrame([row(method, INFOCAM if ", " in method else CAM) for method in refined])
    rows = pd.concat([rows, pd.DataFrame([row(method, CAM) for method in plain])])
    table = image_differences(rows, ranks=None, weights=EQUAL)
    others = [f"{method} - cam" for method in (*refined, "infocam", "similar")]
    own = [f"{method} - similar" for method in refined[:2]]
    assert table["method"].tolist() == [*others, *own]
    assert table["won"].tolist() == [0, 4, 4, 0, 0, 0, 4]
