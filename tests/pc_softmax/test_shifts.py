"""Shifted class priors, subsets of a test set that have them, and the tables of their scores."""

import math

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from pc_softmax.shift_tables import gains, shown_shifts
from pc_softmax.shifts import label_shifts, long_tailed_prior, resample, sample_shifted

TRAIN = np.array([0.7, 0.2, 0.1])


def test_long_tailed_prior_follows_the_training_counts_or_turns_them_around():
    counts = np.array([10, 1000, 100])
    forward = np.exp(long_tailed_prior(counts, 4))
    assert forward == pytest.approx(np.array([1 / 4, 1, 1 / 2]) / 1.75)
    backward = np.exp(long_tailed_prior(counts, 4, backward=True))
    assert backward == pytest.approx(np.array([1, 1 / 4, 1 / 2]) / 1.75)
    equals = np.exp(long_tailed_prior(np.array([5, 5, 9, 5]), 8))
    assert equals == pytest.approx(np.array([4, 2, 8, 1]) / 15)


def test_shifts_go_from_the_training_order_to_its_reverse_then_draw():
    counts = np.array([300, 20, 5])
    shifts = list(label_shifts(counts, np.random.default_rng(0)))
    assert [(name, ratio) for name, ratio, _ in shifts[:11]] == [
        *(("forward", ratio) for ratio in (50, 25, 10, 5, 2)),
        ("uniform", 1),
        *(("backward", ratio) for ratio in (2, 5, 10, 25, 50)),
    ]
    assert [name for name, _, _ in shifts[11:]] == [f"dirichlet {i}" for i in range(1, 6)]
    for name, ratio, log_prior in shifts:
        prior = np.exp(log_prior)
        assert prior.sum() == pytest.approx(1)
        assert prior.max() / prior.min() == pytest.approx(ratio)
        if name in ("forward", "backward"):
            assert prior.argmax() == {"forward": 0, "backward": 2}[name]
    assert len({log_prior.tobytes() for *_, log_prior in shifts[11:]}) == 5
    again, other = (list(label_shifts(counts, np.random.default_rng(seed))) for seed in (0, 1))
    assert np.array_equal(shifts[-1][2], again[-1][2])
    assert not np.array_equal(shifts[-1][2], other[-1][2])


@pytest.mark.parametrize(
    ("available", "prior", "expected"),
    [
        ([100, 100, 100], [0.5, 0.3, 0.2], [100, 60, 40]),
        ([100, 100, 100], [1 / 3, 1 / 3, 1 / 3], [100, 100, 100]),
        ([10, 10, 10], [0.6, 0.25, 0.15], [10, 4, 2]),  # 16.67 samples: 4.17 and 2.5
        ([10, 10, 10], [0.9, 0.09, 0.01], [10, 1, 1]),  # 0.1 of a sample becomes one
        ([30, 10, 5], [0.2, 0.3, 0.5], [2, 3, 5]),
        ([7, 7, 7], [0.7, 0.2, 0.1], [7, 2, 1]),  # 2 and 1 exactly, whatever floats make of it
    ],
)
def test_a_shifted_sample_has_exactly_its_counts_without_replacement(available, prior, expected):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), available))
    rows = sample_shifted(labels, np.log(prior), np.random.default_rng(1))
    assert np.bincount(labels[rows]).tolist() == expected
    assert (np.diff(rows) > 0).all()  # ascending, none twice


def test_a_shifted_sample_is_drawn_by_its_generator_and_evenly():
    labels = np.repeat([0, 1], 20)
    draws = [
        sample_shifted(labels, np.log([0.8, 0.2]), np.random.default_rng(seed))
        for seed in (0, 0, *range(1, 400))
    ]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    often = np.bincount(np.concatenate(draws[1:]), minlength=40) / 400
    assert often[:20].tolist() == [1] * 20
    assert often[20:] == pytest.approx(np.full(20, 1 / 4), abs=0.09)  # four standard errors


def test_a_test_set_without_a_class_cannot_be_shifted():
    with pytest.raises(UserError, match=r"classes \[1\] have no samples in the test set"):
        sample_shifted(np.array([0, 2, 2]), np.log(TRAIN), np.random.default_rng(0))


def test_a_resample_keeps_the_number_of_each_class_and_repeats_evenly():
    labels = np.array([2, 0, 2, 1, 2, 2, 0, 2])
    rng = np.random.default_rng(0)
    draws = np.stack([resample(labels, rng) for _ in range(2_000)])
    assert (np.sort(labels[draws], axis=1) == np.sort(labels)).all()
    often = np.bincount(draws.ravel(), minlength=8) / 2_000
    assert often == pytest.approx(np.ones(8), abs=0.09)  # four standard errors
    assert often[3] == 1  # the only one of its class


def shift_rows() -> pd.DataFrame:
    """Three resamples of two shifts; bbse fails in one of the shifts."""
    return pd.DataFrame(
        {
            "shift": ["forward"] * 3 + ["backward"] * 3,
            "ratio": 10.0,
            "resample": [0, 1, 2] * 2,
            "n": 50,
            "argmax": [0.90, 0.91, 0.92, 0.70, 0.71, 0.72],
            "em": [0.95, 0.97, 0.99, 0.69, 0.71, 0.70],
            "bbse": [0.92, 0.92, 0.92] + [np.nan] * 3,
            "em_total_variation": [0.1, 0.2, 0.3, 0.1, 0.1, 0.1],
        }
    )


def test_tables_of_shifts_have_intervals_over_resamples_and_the_least_gain_of_all_shifts():
    shown = shown_shifts(shift_rows())
    half_width = 4.302653 * 0.01 / math.sqrt(3)  # Student's t with two degrees of freedom
    assert shown["argmax"].tolist() == [f"{p}.00 ± {100 * half_width:.2f}" for p in (91, 71)]
    assert shown["bbse"].tolist() == ["92.00 ± 0.00", ""]
    assert shown["em_total_variation"][0] == f"0.2000 ± {10 * half_width:.4f}"
    assert shown["n"].tolist() == [50, 50]
    partly = shift_rows().assign(bbse=[np.nan, 0.92, 0.92] + [np.nan] * 3)  # fails on a resample
    assert shown_shifts(partly)["bbse"].tolist() == ["92.00", ""]
    # The differences are 5, 6, 7 and -1, 0, -2 points.
    em, bbse = gains(shift_rows()).to_dict("records")
    assert em["mean gain"] == "+2.50" and em["at"] == "backward, 10"
    assert em["least gain"] == f"-1.00 ± {100 * half_width:.2f}"
    assert (bbse["mean gain"], bbse["at"]) == ("+1.00", "forward, 10")
