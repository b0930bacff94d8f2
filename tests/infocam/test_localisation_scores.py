"""Rules for the threshold, top-k, intervals, regions and baselines, from hand-made curves."""

import numpy as np
import pandas as pd
import pytest

from infocam.scoring.choice import best_regions
from infocam.scoring.metrics import Curves, ScoredMaps
from infocam.scoring.protocols import PROTOCOLS
from infocam.scoring.scores import (
    INTERVALS,
    RESAMPLES,
    baseline_rows,
    curve_table,
    method_rows,
    resampled,
    score_rows,
    with_best_regions,
)

OURS, LEGACY = PROTOCOLS["infocam"], PROTOCOLS["infocam-legacy"]
# Five reported images, four thresholds: the oracle's is the third, the validation images choose the
# second, the fixed one is the first.
HIT = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]])
VALIDATION = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
RANKS = np.array([1, 0, 0, 5, 4])
THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.4])
EQUAL = np.full(5, 0.2)


def curves_of(hits: np.ndarray, **pixels) -> Curves:
    """Overlaps of 0.6 for a hit and 0.45 for none; any contour has 0.25 more."""
    overlaps = np.where(hits, 0.6, 0.45)
    n = len(hits)
    energy = np.linspace(0.2, 0.6, n)
    pointing = np.arange(n) % 2 == 0
    return Curves(
        THRESHOLDS[: hits.shape[1]], overlaps, overlaps + 0.25, pointing, energy, **pixels
    )


def rows_of(
    hits=HIT, *, ranks=RANKS, weights=EQUAL, validation=VALIDATION, fixed=0.1
) -> pd.DataFrame:
    options = {"ranks": ranks, "weights": weights, "fixed": fixed}
    options["validation"] = None if validation is None else curves_of(validation)
    return pd.DataFrame(score_rows(curves_of(hits), **options)).set_index("threshold_rule")


def test_each_rule_takes_its_threshold_and_the_scores_there():
    rows = rows_of()
    assert rows.index.tolist() == ["fixed", "validation", "oracle"]
    assert rows["threshold"].tolist() == [0.1, 0.2, 0.3]
    assert rows["gt_known"].tolist() == pytest.approx([1 / 5, 2 / 5, 4 / 5])
    # Hits of each rule: the 4th image; the 1st and 2nd; the first four. Ranks: 1 0 0 5 4.
    assert rows["top1_loc"].tolist() == pytest.approx([0, 1 / 5, 2 / 5])
    assert rows["top5_loc"].tolist() == pytest.approx([0, 2 / 5, 3 / 5])
    assert rows["max_box_acc"].tolist() == pytest.approx([4 / 5] * 3)
    assert rows["pointing"].tolist() == pytest.approx([3 / 5] * 3)
    assert rows["energy"].tolist() == pytest.approx([0.4] * 3)
    # Any contour has 0.7 or 0.85: 1 at 0.3 and 0.5, and at 0.7 (0.45 + 0.25 is just 0.7) too.
    assert rows["max_box_acc_v2"].tolist() == pytest.approx([1] * 3)
    assert rows["pxap"].isna().all() and rows["peak_iou"].isna().all()


def test_v2_takes_each_iou_at_its_own_best_threshold():
    every = np.array([[0.8, 0.4], [0.2, 0.4], [0.2, 0.6], [0.6, 0.4]])
    curves = Curves(THRESHOLDS[:2], every * 0, every, np.zeros(4, bool), np.ones(4))
    options = {"ranks": None, "weights": np.full(4, 0.25), "validation": None, "fixed": None}
    (row,) = score_rows(curves, **options)
    # 0.3: two, all four; 0.5: two, one; 0.7: one, none.
    assert row["max_box_acc_v2"] == pytest.approx((4 + 2 + 1) / 4 / 3)


@pytest.mark.parametrize(
    ("fixed", "taken"), [(0.1, 0.1), (0.19, 0.1), (0.2, 0.2), (0.399, 0.3), (0.9, 0.4)]
)
def test_a_fixed_threshold_is_the_next_lower_one_of_the_protocol(fixed, taken):
    assert rows_of(fixed=fixed).loc["fixed", "threshold"] == taken


def test_without_logits_there_is_no_top_k_and_without_a_threshold_no_such_rule():
    assert rows_of(validation=None, fixed=None).index.tolist() == ["oracle"]
    rows = rows_of(ranks=None)
    names = [f"top{k}_loc{end}" for k in (1, 5) for end in ("", "_low", "_high")]
    assert rows[names].isna().all(axis=None)
    pd.testing.assert_series_equal(rows["gt_known"], rows_of()["gt_known"])


def test_nothing_of_the_reported_images_moves_the_validation_threshold():
    rng = np.random.default_rng(0)
    for _ in range(10):
        hits = rng.random(HIT.shape) < 0.5
        row = rows_of(hits, ranks=rng.integers(0, 9, 5)).loc["validation"]
        assert (row["threshold"], row["gt_known"]) == (0.2, pytest.approx(hits[:, 1].mean()))


def test_weights_change_averages_and_the_oracles_threshold():
    curves = Curves(THRESHOLDS, HIT * 1.0, HIT * 1.0, np.ones(5), np.array([0.2, np.nan, 1, 0, 0]))
    weights = np.array([0.1, 0.1, 0.1, 0.6, 0.1])
    options = {"ranks": np.zeros(5), "validation": None, "fixed": 0.1}
    fixed, oracle = score_rows(curves, weights=weights, **options)
    assert (fixed["gt_known"], oracle["gt_known"]) == pytest.approx((0.6, 0.9))
    assert (fixed["threshold"], oracle["threshold"]) == (0.1, 0.3)
    assert fixed["energy"] == pytest.approx((0.1 * 0.2 + 0.1) / 0.9)  # of maps that have one


# Intervals.


def test_intervals_are_those_of_the_bootstrap_and_the_same_each_time():
    first, second = rows_of(), rows_of()
    pd.testing.assert_frame_equal(first, second)
    generator = np.random.default_rng(0)
    draws = generator.integers(5, size=(RESAMPLES, 5))
    means = HIT[:, 1][draws].mean(axis=1)  # of the validation rule's threshold
    low, high = first.loc["validation", ["gt_known_low", "gt_known_high"]]
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=1e-6)
    for name in INTERVALS:
        assert (first[f"{name}_low"] <= first[name] + 1e-6).all()
        assert (first[f"{name}_high"] >= first[name] - 1e-6).all()
    assert resampled(5).shape == (RESAMPLES, 5)
    assert (resampled(5).sum(axis=1) == 5).all()


# Methods, regions, baselines.


def localised(hits: dict, ranks=RANKS) -> ScoredMaps:
    return ScoredMaps({key: curves_of(own) for key, own in hits.items()}, {}, RANKS, ranks)


def third(count: int) -> np.ndarray:
    """(3, 4): so many of three images are hits at the third threshold of four."""
    return (np.arange(3)[:, None] < count) & (np.arange(4) == 2)


FOUND = {
    "test": localised({(m, r): HIT for m in ("cam", "infocam") for r in (1, 3, 5)}),
    "validation": localised(
        {("infocam", r): third(n) for r, n in ((5, 3), (1, 1), (3, 2))}
        | {("cam", r): third(n) for r, n in ((5, 2), (3, 2), (1, 1))}
    ),
}


def test_rows_of_methods_and_of_the_best_region_the_smallest_of_equals():
    assert best_regions(FOUND["validation"].curves) == {"cam": 3, "infocam": 5}
    rows = pd.DataFrame(method_rows(FOUND["test"], FOUND["validation"], EQUAL, fixed=0.1))
    assert len(rows) == 2 * 3 * 3
    assert set(rows[rows["region"] == 1]["region_rule"]) == {"off"}
    assert set(rows[rows["region"] > 1]["region_rule"]) == {"fixed"}
    validation = rows[rows["threshold_rule"] == "validation"]
    assert set(validation["threshold"]) == {0.3}
    more = with_best_regions(rows, best_regions(FOUND["validation"].curves)).iloc[len(rows) :]
    assert set(more["region_rule"]) == {"validation"}
    assert more[["method", "region"]].drop_duplicates().values.tolist() == [
        ["cam", 3],
        ["infocam", 5],
    ]
    same = ["threshold_rule", "threshold", "gt_known", "top1_loc_low"]
    fives = rows[(rows["method"] == "infocam") & (rows["region"] == 5)]
    assert more[same].values[3:].tolist() == fives[same].values.tolist()


def test_curve_table_has_both_parts_and_top_1():
    table = curve_table(FOUND["test"], FOUND["validation"])
    own = table[(table["method"] == "infocam") & (table["region"] == 5)]
    assert own["threshold"].tolist() == THRESHOLDS.tolist()
    assert own["gt_known"].tolist() == pytest.approx([1 / 5, 2 / 5, 4 / 5, 2 / 5])
    assert own["top1_loc"].tolist() == pytest.approx([0, 1 / 5, 2 / 5, 1 / 5])  # images 2 and 3
    assert own["validation_gt_known"].tolist() == [0, 0, 1, 0]
    assert len(table) == 6 * 4


def test_baselines_by_hand():
    # Truths of the test images: all, a centred half, a corner. Of the validation one: all.
    boxes = [np.array([[0, 0, 9, 9]]), np.array([[2, 2, 7, 7]]), np.array([[0, 0, 1, 1]])]
    sizes = np.full((3, 2), 10)
    options = {"ranks": np.array([0, 1, 0]), "weights": np.full(3, 1 / 3)}
    parts = (boxes, sizes), (boxes[:1], sizes[:1])
    rows = pd.DataFrame(baseline_rows(*parts, OURS, **options))
    assert rows[["method", "threshold_rule"]].values.tolist() == [
        ["whole-image", "none"],
        ["centre-box", "validation"],
        ["centre-box", "oracle"],
    ]
    whole, validation, oracle = rows.to_dict("records")
    # The whole image is right for the first; 36 of 100 pixels are too few.
    assert (whole["threshold"], whole["gt_known"], whole["top1_loc"]) == (
        1,
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    # A side of 7 pixels has 49 of the first truth's 100, one of 8 has 64. Sides are rounded to
    # whole pixels, 0.75 of ten up to the even eight: the first that hits the validation image.
    assert validation["threshold"] == 0.75
    # At 8 pixels, 36 / 64 is a hit as well: two of three, by either rule.
    assert validation["gt_known"] == oracle["gt_known"] == pytest.approx(2 / 3)
    assert (oracle["threshold"], oracle["top1_loc"]) == (0.75, pytest.approx(1 / 3))
    assert {(row["region"], row["region_rule"]) for row in (whole, validation, oracle)} == {
        (1, "off")
    }
    assert whole["pointing"] == oracle["pointing"] == pytest.approx(2 / 3)
    assert whole["energy"] == pytest.approx((1 + 0.36 + 0.04) / 3)
