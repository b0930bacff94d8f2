"""EM on logits that held-out samples have calibrated."""

import dataclasses

import numpy as np
import pytest

from pc_softmax.evaluate import target_log_prior
from pc_softmax.metrics import Predictions
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
