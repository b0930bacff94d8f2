"""Exact values against the recorded ones, an independent integral, and random sampling."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from mi_estimator.tasks.gaussians import IMBALANCED, GaussianClasses
from mi_estimator.tasks.suites import SUITES

OFFSETS = (0.0, 2.0, -2.0, 4.0, -4.0)
EXACT = {  # nats, by two earlier computations
    "gaussian-d1-balanced": 1.0314200,
    "gaussian-d2-balanced": 1.3003467,
    "gaussian-d5-balanced": 1.5543774,
    "gaussian-d10-balanced": 1.6058406,
    "gaussian-d1-imbalanced": 1.0223772,
    "gaussian-d2-imbalanced": 1.2392833,
    "gaussian-d5-imbalanced": 1.4449105,
    "gaussian-d10-imbalanced": 1.4868121,
}


def by_differential_entropy(task: GaussianClasses) -> float:
    """I(X;Y) = h(T) - h(T|Y) by adaptive quadrature; no density ratio, no trapezoids."""
    p = np.array(task.class_counts) / sum(task.class_counts)
    centres = np.array(task.offsets) * task.dim**0.5

    def minus_q_log_q(t: float) -> float:
        q = (p * np.exp(-0.5 * (t - centres) ** 2)).sum() / np.sqrt(2 * np.pi)
        return -q * np.log(q) if q > 0 else 0.0

    edges = np.unique([[c - 11, c - 3, c, c + 3, c + 11] for c in centres])
    pieces = [
        integrate.quad(minus_q_log_q, low, high, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    ]
    return sum(pieces) - 0.5 * np.log(2 * np.pi * np.e)


def slow_log_ratio(task: GaussianClasses, x: np.ndarray) -> np.ndarray:
    """log p(x|k) / p(x) from the densities in all d dimensions, in float64."""
    p = np.array(task.class_counts) / sum(task.class_counts)
    log_density = np.stack([-0.5 * ((x - m) ** 2).sum(axis=1) for m in task.offsets], axis=1)
    top = log_density.max(axis=1, keepdims=True)
    return log_density - top - np.log((p * np.exp(log_density - top)).sum(axis=1, keepdims=True))


def test_the_suite_has_the_papers_eight_tasks():
    assert set(SUITES["paper"]) == set(EXACT)
    assert IMBALANCED == (5_000, 10_000, 15_000, 20_000, 25_000)
    for name, task in ((n, t.distribution) for n, t in SUITES["paper"].items()):
        assert name.startswith(f"gaussian-d{task.dim}-")
        assert task.offsets == OFFSETS
        balanced = task.class_counts == (10_000,) * 5
        assert balanced == name.endswith("-balanced")
        assert balanced or task.class_counts == IMBALANCED
        assert task.label_entropy == pytest.approx(1.609438 if balanced else 1.489750, abs=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(name):
    task = SUITES["paper"][name].distribution
    value, error = task.mutual_information()
    assert value == pytest.approx(EXACT[name], abs=1e-6)
    independent = by_differential_entropy(task)
    assert value == pytest.approx(independent, abs=1e-9)
    assert 0 < error < 1e-9


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.integers(1, 99), st.floats(-5, 5)), min_size=2, max_size=4),
    st.integers(1, 12),
)
def test_exact_values_of_any_offsets_and_priors(classes, dim):
    counts, offsets = zip(*classes, strict=True)
    task = GaussianClasses(dim, counts, offsets)
    value, _ = task.mutual_information()
    assert value == pytest.approx(by_differential_entropy(task), abs=1e-9)
    assert -1e-12 < value < task.label_entropy + 1e-12


@pytest.mark.parametrize("name", EXACT)
def test_the_oracle_scores_samples_with_the_true_ratio(name):
    task = SUITES["paper"][name].distribution
    x, y = task.sample(200_000, torch.Generator().manual_seed(1))
    ratio = task.log_ratio(x)
    assert ratio.dtype == torch.float64 and ratio.shape == (200_000, 5)
    slow = slow_log_ratio(task, x[:500].double().numpy())
    np.testing.assert_allclose(ratio[:500].numpy(), slow, rtol=1e-5, atol=1e-5)
    scores = ratio[torch.arange(len(y)), y]
    standard_error = scores.std().item() / len(y) ** 0.5
    assert abs(task.mutual_information()[0] - scores.mean().item()) < 4 * standard_error


def test_exact_counts_at_the_papers_size_are_the_papers_counts():
    generator = torch.Generator().manual_seed(0)
    _, y = GaussianClasses(1, IMBALANCED).sample(75_000, generator, exact_counts=True)
    assert torch.bincount(y).tolist() == list(IMBALANCED)
    assert (y[1:] != y[:-1]).float().mean() > 0.5  # in random order, not sorted


@pytest.mark.parametrize("exact_counts", [True, False])
def test_samples_have_the_classes_means_and_unit_variance(exact_counts):
    task, n = GaussianClasses(2, IMBALANCED), 100_000
    x, y = task.sample(n, torch.Generator().manual_seed(3), exact_counts=exact_counts)
    assert (x.dtype, y.dtype, tuple(x.shape), tuple(y.shape)) == (
        torch.float32,
        torch.int64,
        (n, 2),
        (n,),
    )
    for k, (offset, count) in enumerate(zip(OFFSETS, IMBALANCED, strict=True)):
        p = count / 75_000
        mine = x[y == k]
        assert abs(len(mine) - p * n) <= (1 if exact_counts else 4 * (p * (1 - p) * n) ** 0.5)
        assert (mine.mean(0) - offset).abs().max() < 4 / len(mine) ** 0.5
        covariance = torch.cov(mine.T)
        assert (covariance - torch.eye(2)).abs().max() < 6 / len(mine) ** 0.5
