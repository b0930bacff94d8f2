"""Paired differences over images and seeds, by hand and against formulas and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from infocam.scoring.paired import (
    image_differences,
    interval_over_images_and_seeds,
    over_images_and_seeds,
)
from infocam.scoring.scores import HITS, RESAMPLES, Evaluation
from mi_common.errors import UserError

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
        ["cam - infocam", "off", "fixed"],
        ["cam - infocam", "off", "validation"],
        ["cam - centre-box", "off", "validation"],
        ["infocam - cam", "off", "fixed"],
        ["infocam - cam", "off", "validation"],
        ["infocam - centre-box", "off", "validation"],
    ]
    assert table["n"].tolist() == [8] * 6
    assert table["won"].tolist() == [1, 1, 3, 4, 4, 5]
    assert table["lost"].tolist() == [4, 4, 1, 1, 1, 0]
    assert table["gt_known"].tolist() == [-3 / 8, -3 / 8, 2 / 8, 3 / 8, 3 / 8, 5 / 8]
    # Only images 0, 1, 2, 4 and 6 have their label on top: won 2, 4, 6, lost 1.
    assert table["top1_loc"].tolist() == [-2 / 8, -2 / 8, 1 / 8, 2 / 8, 2 / 8, 3 / 8]
    pairs = ((1, 4), (1, 4), (3, 1), (4, 1), (4, 1), (5, 0))
    expected = [slow_mcnemar(*pair) for pair in pairs]
    assert table["p"].tolist() == pytest.approx(expected)
    assert expected[5] == 2 / 32


def test_intervals_are_those_of_resampled_images():
    weights = np.array([0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    draws = np.random.default_rng(0).integers(8, size=(RESAMPLES, 8))
    for used in (EQUAL, weights):
        line = image_differences(ROWS, ranks=RANKS, weights=used).iloc[4]
        for name, kept in (("gt_known", np.ones(8)), ("top1_loc", RANKS == 0)):
            change = (INFOCAM.astype(float) - CAM) * kept
            means = [(used[d] * change[d]).sum() / used[d].sum() for d in draws]
            low, high = np.percentile(means, (2.5, 97.5))
            expected = [used @ change, low, high]
            columns = [name, f"{name}_low", f"{name}_high"]
            assert line[columns].tolist() == pytest.approx(expected, abs=1e-6)


def test_equal_hits_have_no_difference_and_no_ranks_no_top_1():
    rows = pd.DataFrame([row("cam", CAM), row("infocam", CAM)])
    lines = image_differences(rows, ranks=None, weights=EQUAL).to_dict("records")
    assert len(lines) == 2
    for line in lines:
        assert (line["gt_known"], line["gt_known_low"], line["gt_known_high"]) == (0, 0, 0)
        assert (line["won"], line["lost"], line["p"]) == (0, 0, 1)
        assert "top1_loc" not in line


def test_refined_methods_are_compared_with_the_plain_one():
    plain = ["infocam", "cam", "similar"]
    refined = ["propagated similar", "similar, mean box", "propagated cam, prior map, mean box"]
    rows = pd.DataFrame([row(method, INFOCAM if ", " in method else CAM) for method in refined])
    rows = pd.concat([rows, pd.DataFrame([row(method, CAM) for method in plain])])
    table = image_differences(rows, ranks=None, weights=EQUAL)
    baselines = [[*("cam", "infocam"), *["similar"] * ("similar" in name)] for name in refined]
    baselines += [["cam"], ["infocam"], ["cam", "infocam"]]
    pairs = zip([*refined, *plain], baselines, strict=True)
    expected = [f"{method} - {baseline}" for method, names in pairs for baseline in names]
    assert table["method"].tolist() == expected
    assert table["won"].tolist() == [0, 0, 0, 4, 4, 4, 4, 4, 0, 0, 0, 0]


def test_two_propagations_are_compared_with_one():
    hits = {"infocam": CAM, "propagated infocam": CAM, "twice propagated infocam": INFOCAM}
    rows = pd.DataFrame([row(method, of_method) for method, of_method in hits.items()])
    table = image_differences(rows, ranks=None, weights=EQUAL)
    pairs = ["propagated infocam - infocam", "twice propagated infocam - infocam"]
    pairs.append("twice propagated infocam - propagated infocam")
    assert table["method"].tolist() == pairs
    assert table["won"].tolist() == [0, 4, 4]


def student(values: np.ndarray) -> list[float]:
    """The mean of values and the ends of Student's interval, by SciPy."""
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return [values.mean(), ends.low, ends.high]


def test_one_seed_or_seeds_that_agree_leave_students_interval_over_images():
    values = np.random.default_rng(0).normal(size=50)
    weights = np.full(50, 1 / 50)
    for seeds in (1, 3):
        found = interval_over_images_and_seeds(np.tile(values, (seeds, 1)), weights)
        assert found == pytest.approx(student(values))


def test_images_that_agree_leave_students_interval_over_seeds():
    of_seed = np.array([0.1, 0.3, 0.2])
    values = np.tile(of_seed[:, None], (1, 40))
    found = interval_over_images_and_seeds(values, np.full(40, 1 / 40))
    assert found == pytest.approx(student(of_seed))
    assert interval_over_images_and_seeds(values * 0, np.full(40, 1 / 40)) == (0, 0, 0)


def test_both_variances_add_and_weights_count_as_copies_of_images():
    values = np.random.default_rng(1).normal(size=(3, 4))
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    of_seed = [sum(w * v for w, v in zip(weights, line, strict=True)) for line in values.tolist()]
    mean = sum(of_seed) / 3
    by_seeds = sum((v - mean) ** 2 for v in of_seed) / 2 / 3
    of_image = values.sum(axis=0) / 3
    by_images = sum((w * (v - mean)) ** 2 for w, v in zip(weights, of_image, strict=True)) * 4 / 3
    freedom = (by_images + by_seeds) ** 2 / (by_images**2 / 3 + by_seeds**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(by_images + by_seeds)
    found = interval_over_images_and_seeds(values, weights)
    assert found == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize("spreads", [(1, 0.2, 0), (1, 0.05, 0.5), (0.3, 0.3, 1)])
def test_the_interval_holds_the_truth_in_95_of_100_samples_of_images_and_seeds(spreads):
    rng, holds, sizes = np.random.default_rng(0), [], ((40,), (3, 1), (3, 40))
    for _ in range(600):
        effects = [s * rng.normal(size=n) for s, n in zip(spreads, sizes, strict=True)]
        _, low, high = interval_over_images_and_seeds(sum(effects), np.full(40, 1 / 40))
        holds.append(low <= 0 <= high)
    assert 0.93 <= np.mean(holds) <= 0.995


SETTING = {"dataset": "d", "network": "n", "map": "7x7", "loss": "softmax", "protocol": "infocam"}
REFINED = "propagated infocam"
BY_SEED = {0: (CAM, INFOCAM, CENTRE, ~CAM), 1: (CENTRE, INFOCAM, CENTRE, INFOCAM)}


def evaluation(seed: int, **changed) -> Evaluation:
    methods = ("cam", "infocam", "centre-box", REFINED)
    rows = [row(m, hits) for m, hits in zip(methods, BY_SEED[seed], strict=True)]
    rows += [row("cam", CAM, region_rule="fixed"), row("cam", CAM, "oracle")]
    rows = pd.DataFrame([SETTING | {"validation_gt_known": 0.5 + seed / 4} | r for r in rows])
    of_images = {"ranks": RANKS + seed, "weights": EQUAL}
    of_images |= {"properties": {"area": np.array([8, 7, 6, 5, 4, 3, 2, 1])}} | changed
    return Evaluation(rows, pd.DataFrame(), None, **of_images)


def test_scores_and_differences_of_two_seeds():
    table = over_images_and_seeds([evaluation(0), evaluation(1)])
    keys = ["method", "baseline", "threshold_rule", "property", "quarter"]
    lines = table.set_index(keys)
    everything = lines.xs("all", level="property").droplevel("quarter")
    assert everything.index.tolist() == [
        *(("cam", b, "validation") for b in ("none", "infocam", "centre-box")),
        *(("infocam", b, "validation") for b in ("none", "cam", "centre-box")),
        ("centre-box", "none", "validation"),
        *((REFINED, b, "validation") for b in ("none", "cam", "infocam", "centre-box")),
        ("cam", "none", "oracle"),
    ]
    assert len(table) == 12 + 11 * 4  # quarters of validation thresholds
    assert table[["seeds", *SETTING]].drop_duplicates().values.tolist() == [[2, *SETTING.values()]]
    changes = np.stack([BY_SEED[seed][3] for seed in (0, 1)]).astype(float) - INFOCAM
    is_top = np.stack([RANKS < 1, np.zeros(8)])
    line = everything.loc[(REFINED, "infocam", "validation")]
    for name, values in (("gt_known", changes), ("top1_loc", changes * is_top)):
        found = line[[name, f"{name}_low", f"{name}_high"]].tolist()
        assert found == pytest.approx(interval_over_images_and_seeds(values, EQUAL), abs=1e-6)
    smallest = lines.loc[(REFINED, "infocam", "validation", "area", 1)]  # images 6 and 7
    assert smallest[["n", "validation_gt_known"]].tolist() == [2, 0.625]
    assert smallest["gt_known"] == pytest.approx(changes[:, 6:].mean(), abs=1e-6)


def test_runs_on_other_images_are_refused():
    fewer = evaluation(1, weights=np.full(4, 1 / 4))
    with pytest.raises(UserError, match="different numbers of test images"):
        over_images_and_seeds([evaluation(0), fewer])
