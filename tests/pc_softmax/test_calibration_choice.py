"""Temperature and class biases, and the choice among them by cross-validation."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from mi_common.calibration import fit_calibration
from pc_softmax.calibration import Calibration, choose, fit, fit_again


def gaussians(counts: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact PC-softmax logits of Gaussian classes at the unit vectors times two, and labels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), len(counts)))
    return 2 * (2 * np.eye(len(counts))[labels] + noise), labels


@pytest.mark.parametrize("bias_sd", [0.1, 0.3, 1.0])
@pytest.mark.parametrize(("counts", "scale"), [([40, 10], 3.0), ([30, 5, 12], 0.4), ([4] * 8, 2.0)])
def test_fisher_scoring_finds_the_optimum_of_a_general_minimiser(counts, scale, bias_sd):
    logits, labels = gaussians(counts, seed=0)
    logits = scale * logits + np.linspace(-1, 1, len(counts))
    log_prior = np.log(np.array(counts) / sum(counts))

    def objective(x: np.ndarray) -> float:
        calibrated = np.exp(x[0]) * logits + x[1:]
        loss = (
            logsumexp(calibrated + log_prior, axis=1) - calibrated[np.arange(len(labels)), labels]
        )
        return loss.sum() + (x[0] ** 2 + ((x[1:] / bias_sd) ** 2).sum()) / 2

    expected = minimize(objective, np.zeros(1 + len(counts)), tol=1e-9).x
    fitted = fit(logits, labels, log_prior, bias_sd)
    assert fitted.scale == pytest.approx(np.exp(expected[0]), rel=2e-4)
    assert fitted.bias == pytest.approx(expected[1:], abs=2e-4)
    scale, bias = fit_calibration(
        *map(torch.from_numpy, (logits, labels, log_prior)), bias_sd=bias_sd
    )
    assert scale.item() == fitted.scale and (bias.numpy() == fitted.bias).all()
    started = fit(logits, labels, log_prior, bias_sd, Calibration(3.0, np.ones(len(counts)), 1.0))
    assert started.scale == pytest.approx(fitted.scale, rel=2e-4)


def test_a_temperature_is_the_best_of_a_fine_grid():
    logits, labels = gaussians([30, 5, 12], seed=1)
    log_prior = np.log(np.array([30, 5, 12]) / 47)

    def objective(scale: float) -> float:
        joint = scale * logits + log_prior
        loss = logsumexp(joint, axis=1).sum() - scale * logits[np.arange(47), labels].sum()
        return loss + np.log(scale) ** 2 / 2

    scales = np.exp(np.linspace(-2, 2, 401))
    fitted = fit(logits, labels, log_prior, 0.0)
    assert fitted.scale == pytest.approx(min(scales, key=objective), rel=0.01)
    assert (fitted.bias == 0).all() and fitted.name == "temperature"


def test_at_any_scale_of_separable_logits_the_fit_is_finite():
    for factor in (1e-9, 1.0, 1e6):
        logits, labels = (
            factor * np.eye(3)[np.repeat(np.arange(3), 20)],
            np.repeat(np.arange(3), 20),
        )
        fitted = fit(logits, labels, np.full(3, -np.log(3)), 1.0)
        assert np.isfinite(fitted(logits)).all() and fitted.scale > 0


@pytest.mark.parametrize(
    ("scale", "bias", "name"),
    [
        (1, 0, "none"),
        (3, 0, "temperature"),
        (1, 1, "temperature and class biases"),
    ],
)
def test_what_is_wrong_with_logits_is_corrected_and_what_is_right_stays(scale, bias, name):
    exact, labels = gaussians([300, 200, 100], seed=2)
    logits = scale * exact + bias * np.array([1.0, -1.0, 0.0])
    calibration = choose(logits, labels)
    assert calibration.name == name
    calibrated = calibration(logits)
    assert calibrated[:, 0] - calibrated[:, 1] == pytest.approx(exact[:, 0] - exact[:, 1], abs=1.5)


def test_a_class_without_samples_gets_no_bias_and_few_samples_no_calibration():
    logits, labels = gaussians([200, 200, 0], seed=3)
    calibration = choose(3 * logits + np.array([2.0, 0.0, 5.0]), labels)
    assert calibration.name != "none" and calibration.bias[2] == 0
    assert choose(50 * logits[195:204], labels[195:204]).name == "none"


def test_a_calibration_is_fitted_again_in_its_kind():
    logits, labels = gaussians([60, 30], seed=4)
    assert fit_again(Calibration.none(2), 9 * logits, labels).name == "none"
    like = fit(logits, labels, np.log([2 / 3, 1 / 3]), 0.3)
    again = fit_again(like, 4 * logits, labels)
    assert again.bias_sd == 0.3 and again.scale == pytest.approx(like.scale / 4, rel=0.1)
