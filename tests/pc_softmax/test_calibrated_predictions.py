"""EM on logits that validation samples have calibrated, where there are enough of them."""

import dataclasses

import numpy as np
import pytest

from pc_softmax import predictions as predictions_module
from pc_softmax.evaluate import evaluate, target_log_prior
from pc_softmax.predictions import MIN_CALIBRATION_SAMPLES, Predictions
from pc_softmax.priors import label_frequencies, total_variation

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
TRAIN, SHIFTED = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
SCALE, BIAS = 0.5, np.array([0.6, 0.0, -0.6])  # of the miscalibrated network


def sample(prior: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes: exact PC-softmax logits log p(x | k), and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=count, p=prior)
    x = MEANS[labels] + rng.normal(size=(count, 2))
    return -((x[:, None] - MEANS) ** 2).sum(axis=2) / 2, labels


def predictions(*, distorted: bool, held_out: bool) -> Predictions:
    parts = {"validation": sample(TRAIN, 5000, 0), "test": sample(SHIFTED, 5000, 1)}
    if distorted:
        parts = {name: ((f - BIAS) / SCALE, y) for name, (f, y) in parts.items()}
    return Predictions(
        np.log(TRAIN),
        np.array([70, 20, 10]),
        np.full(3, -np.log(3)),
        ["a", "b", "c"],
        {"test": parts["test"]},
        parts["validation"] if held_out else None,
    )


def em_distance(found: Predictions) -> float:
    logits, labels = found.tests["test"]
    prior = np.exp(target_log_prior("em", found, found.pc_softmax_logits(logits)))
    return total_variation(prior, label_frequencies(labels, 3))


def test_calibration_takes_temperature_and_biases_back():
    found = predictions(distorted=True, held_out=True)
    exact = sample(SHIFTED, 5000, 1)[0]
    again = found.calibrated(found.pc_softmax_logits(found.tests["test"][0]))
    # Posteriors of pairs of classes: a common constant of a row means nothing.
    assert again[:, 0] - again[:, 2] == pytest.approx(exact[:, 0] - exact[:, 2], abs=0.35)
    assert np.abs((again - exact) @ [1, -1, 0]).mean() < 0.15


def test_em_recovers_a_shifted_prior_from_miscalibrated_logits_only_with_held_out_samples():
    assert em_distance(predictions(distorted=False, held_out=False)) < 0.02
    assert em_distance(predictions(distorted=True, held_out=False)) > 0.05
    assert em_distance(predictions(distorted=True, held_out=True)) < 0.02


def test_without_held_out_samples_logits_stay_as_they_are():
    found = predictions(distorted=True, held_out=True)
    logits = found.tests["test"][0]
    assert (dataclasses.replace(found, validation=None).calibrated(logits) == logits).all()
    assert not np.allclose(found.calibrated(logits), logits)


# Few validation samples.

FIVE = np.array([12, 9, 6, 3, 1])  # validation samples of five classes, 31 in all


def few(validation_counts: np.ndarray, seed: int) -> Predictions:
    """Exact logits of overlapping Gaussian classes; the test set is distributed as the training."""

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
    found = few(FIVE, seed)
    plain = evaluate(found, "test", "train").scores["accuracy"]
    assert plain == pytest.approx(0.60, abs=0.01)
    assert abs(evaluate(found, "test", "em").scores["accuracy"] - plain) < 0.01
    monkeypatch.setattr(predictions_module, "MIN_CALIBRATION_SAMPLES", 1)  # calibrated on them
    assert evaluate(few(FIVE, seed), "test", "em").scores["accuracy"] < plain - 0.08


def test_ten_validation_samples_of_every_class_calibrate_and_nine_of_one_do_not():
    assert MIN_CALIBRATION_SAMPLES == 10
    for count, calibrates in ((10, True), (9, False)):
        found = few(np.array([30, 30, 30, 10, count]), seed=0)
        logits = found.tests["test"][0]
        assert (found.calibrated(logits) == logits).all() != calibrates
        assert (found.calibration_note == "") == calibrates
        assert found.scarce_classes == ({} if calibrates else {"e": 9})


def test_a_note_names_the_classes_and_their_validation_samples():
    uncalibrated = "EM uses uncalibrated logits"
    more = "hold more images out with --val-fraction"
    none = dataclasses.replace(few(FIVE, 0), validation=None)
    assert none.calibration_note == f"{uncalibrated}; hold images out with --val-fraction"
    assert few(FIVE, 0).calibration_note == (
        f"{uncalibrated}: fewer than 10 validation samples of b (9), c (6), d (3), e (1); {more}"
    )
    names = ["same", "same", "line\nbreak", "d" * 50, "e", "f", "g"]
    labels = np.array([0] * 10 + [1, 3, 3])
    many = Predictions(
        np.full(7, -np.log(7)),
        np.ones(7),
        np.full(7, -np.log(7)),
        names,
        {},
        (np.zeros((13, 7)), labels),
    )
    assert many.calibration_note == (
        f"{uncalibrated}: fewer than 10 validation samples of same (1) (1), "
        f"line\\nbreak (2) (0), {'d' * 40}... (2), e (4) (0), f (5) (0) and 1 more; {more}"
    )
