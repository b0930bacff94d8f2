"""EM on logits that validation samples have calibrated, if there are enough of them."""

import dataclasses

import numpy as np
import pytest

from pc_softmax import predictions as predictions_module
from pc_softmax.evaluation import evaluate
from pc_softmax.predictions import Predictions

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
TRAIN, SHIFTED = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
SCALE, BIAS = 0.5, np.array([0.6, 0.0, -0.6])  # of the miscalibrated network


def sample(prior: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes: exact PC-softmax logits log p(x | k), and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=count, p=prior)
    x = MEANS[labels] + rng.normal(size=(count, 2))
    return -((x[:, None] - MEANS) ** 2).sum(axis=2) / 2, labels


def predictions(*, distorted: bool, validation: bool) -> Predictions:
    splits = {"validation": sample(TRAIN, 5000, 0), "test": sample(SHIFTED, 5000, 1)}
    if distorted:
        splits = {name: ((f - BIAS) / SCALE, y) for name, (f, y) in splits.items()}
    return Predictions(
        np.log(TRAIN),
        np.array([70, 20, 10]),
        np.full(3, -np.log(3)),
        ["a", "b", "c"],
        {"test": splits["test"]},
        splits["validation"] if validation else None,
    )


def test_calibration_inverts_temperature_and_biases():
    distorted = predictions(distorted=True, validation=True)
    exact = sample(SHIFTED, 5000, 1)[0]
    calibrated = distorted.calibrated(distorted.test_logits["test"])
    # Differences of two classes, because a constant per sample has no meaning.
    difference = calibrated[:, 0] - calibrated[:, 2]
    assert difference == pytest.approx(exact[:, 0] - exact[:, 2], abs=0.35)
    assert np.abs((calibrated - exact) @ [1, -1, 0]).mean() < 0.15


@pytest.mark.parametrize(
    ("distorted", "validation", "low", "high"),
    [(False, False, 0, 0.02), (True, False, 0.05, 1), (True, True, 0, 0.02)],
)
def test_em_recovers_a_shifted_prior_from_miscalibrated_logits_only_with_validation_samples(
    distorted, validation, low, high
):
    saved = predictions(distorted=distorted, validation=validation)
    assert low < evaluate(saved, "test", "em").scores["prior_total_variation"] < high
    logits = saved.test_logits["test"]
    assert (saved.calibrated(logits) == logits).all() != validation


# Few validation samples.

FIVE = np.array([12, 9, 6, 3, 1])  # validation samples of five classes, 31 in all


def few(validation_counts: np.ndarray, seed: int) -> Predictions:
    """Exact logits of overlapping Gaussian classes; the test set has the training prior."""

    def drawn(counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(5), counts)
        return np.eye(5)[labels] + np.random.default_rng(seed).normal(size=(len(labels), 5)), labels

    return Predictions(
        np.log(FIVE / 31),
        9 * FIVE,
        np.full(5, -np.log(5)),
        list("abcde"),
        {"test": drawn(20 * FIVE, 1000)},
        drawn(validation_counts, seed),
    )


@pytest.mark.parametrize("seed", [13, 43, 44, 65, 107])
def test_em_with_31_validation_samples_is_as_good_as_the_argmax(monkeypatch, seed):
    saved = few(FIVE, seed)
    plain = evaluate(saved, "test", "train").scores["accuracy"]
    assert plain == pytest.approx(0.60, abs=0.01)
    assert abs(evaluate(saved, "test", "em").scores["accuracy"] - plain) < 0.01
    monkeypatch.setattr(predictions_module, "MIN_CALIBRATION_SAMPLES", 1)  # calibrated on them
    assert evaluate(few(FIVE, seed), "test", "em").scores["accuracy"] < plain - 0.08


@pytest.mark.parametrize(("count", "scarce"), [(10, {}), (9, {"e": 9})])
def test_ten_validation_samples_of_every_class_calibrate_and_nine_of_one_do_not(count, scarce):
    saved = few(np.array([30, 30, 30, 10, count]), seed=0)
    logits = saved.test_logits["test"]
    assert saved.scarce_classes == scarce
    assert (saved.calibrated(logits) == logits).all() == bool(scarce)
    assert bool(saved.calibration_note) == bool(scarce)


def test_a_note_names_the_classes_and_their_validation_samples():
    none = dataclasses.replace(few(FIVE, 0), validation=None)
    assert "EM uses uncalibrated logits" in none.calibration_note
    assert " of b (9), c (6), d (3), e (1); " in few(FIVE, 0).calibration_note
    many = Predictions(
        np.full(7, -np.log(7)),
        np.ones(7),
        np.full(7, -np.log(7)),
        ["same", "same", "line\nbreak", "d" * 50, "e", "f", "g"],
        {},
        (np.zeros((13, 7)), np.array([0] * 10 + [1, 3, 3])),
    )
    classes = f"same (1) (1), line\\nbreak (2) (0), {'d' * 40}... (2), e (4) (0), f (5) (0)"
    assert f" of {classes} and 1 more; " in many.calibration_note
    assert all("--val-fraction" in saved.calibration_note for saved in (none, few(FIVE, 0), many))
