"""Known truths against scipy, closed forms and their own oracles; samples against their laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mi_estimator.tasks.gaussians import GaussianClasses, OrthogonalClasses, RotatedGaussians
from mi_estimator.tasks.joint import integrate_information, uniform_log_prior
from mi_estimator.tasks.mapped import Bent
from mi_estimator.tasks.table_suite import TABLES
from mi_estimator.tasks.vectors import (
    ConcentricClasses,
    Independent,
    NoisyXor,
    StudentClasses,
    UniformMixture,
)

VECTORS = {
    "rotated": RotatedGaussians(20, GaussianClasses(1, (1, 2, 3), (-2, 0, 1))),
    "orthogonal": OrthogonalClasses(20, 2.0),
    "concentric": ConcentricClasses(5),
    "xor": NoisyXor(0.1, dim=3),
    "uniform-mixture": UniformMixture(5),
    "student": StudentClasses(1.0, dim=2),
    "independent": Independent(10, dim=2),
    "bent": Bent(GaussianClasses(3, (1, 2, 3), (-1.0, 0.0, 2.0))),
    "rare": GaussianClasses(2, (199, 1), (0.0, 2.0)),
}
ZOO = VECTORS | TABLES
FROM_SAMPLES = ("sparse-d200", "zipf-k10")  # the only truths that are no integrals


def draw(distribution, n, seed=0, **kwargs):
    return distribution.sample(n, torch.Generator().manual_seed(seed), **kwargs)


def own_scores(distribution, n):
    x, y = draw(distribution, n, seed=1)
    return distribution.log_ratio(x)[torch.arange(n), y].numpy()


def information_by_entropies(densities, conditional_entropies, edges):
    """h(T) - mean h(T | k) of equal classes, the first by adaptive quadrature between edges."""

    def minus_q_log_q(t):
        q = np.mean([density(t) for density in densities])
        return -q * math.log(q) if q > 0 else 0.0

    pieces = [
        integrate.quad(minus_q_log_q, low, high, epsabs=1e-12, epsrel=1e-11, limit=500)[0]
        for low, high in itertools.pairwise(edges)
    ]
    return sum(pieces) - np.mean(conditional_entropies)


@pytest.mark.parametrize("name", ZOO)
def test_the_oracle_averages_to_the_mutual_information(name):
    n = 200_000 if name in VECTORS else 50_000
    scores = own_scores(ZOO[name], n)
    value, error = ZOO[name].mutual_information()
    assert 0 <= error < (3e-4 if name in FROM_SAMPLES else 1e-8)
    assert abs(value - scores.mean()) <= 4 * scores.std() / n**0.5 + error + 1e-12


@pytest.mark.parametrize("name", ZOO)
def test_the_oracles_ratios_average_to_one_over_the_product_of_marginals(name):
    """Class by class: the mean of p(x | k) / p(x) over p(x), where x did not come from k."""
    x, _ = draw(ZOO[name], 200_000 if name in VECTORS else 50_000, seed=2)
    ratios = ZOO[name].log_ratio(x).exp()
    standard_error = ratios.std(dim=0) / len(x) ** 0.5
    of_labels = ratios @ ZOO[name].log_prior.exp()
    torch.testing.assert_close(of_labels, torch.ones_like(of_labels), rtol=0, atol=1e-10)
    assert ((ratios.mean(dim=0) - 1).abs() <= 4 * standard_error + 1e-12).all()


@pytest.mark.parametrize("dim", [1, 30, 1000])
def test_rotated_gaussians_carry_the_same_in_any_dimension(dim):
    task = RotatedGaussians(dim)
    assert task.mutual_information()[0] == pytest.approx(1.0314200, abs=1e-7)
    x, y = draw(task, 5000)
    scores = own_scores(task, 5000)
    assert abs(scores.mean() - 1.0314200) < 4 * scores.std() / 5000**0.5
    assert task.direction.norm().item() == pytest.approx(1, abs=1e-12)
    noise = x.double() - torch.tensor(task.line.offsets)[y].double()[:, None] * task.direction
    assert abs(noise.mean()) < 4 / noise.numel() ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / noise.numel()) ** 0.5


@pytest.mark.parametrize("separation", [0.1, 1.0, 3.0, 10.0])
def test_two_orthogonal_classes_are_two_gaussians_on_a_line(separation):
    value, error = OrthogonalClasses(2, separation).mutual_information()
    line = GaussianClasses(1, (1, 1), (0.0, separation * 2**0.5))
    expected, expected_error = line.mutual_information()
    assert abs(value - expected) <= error + expected_error


def test_three_orthogonal_classes_by_gauss_hermite_quadrature():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    z = np.exp(1.2 * nodes)
    ratio = (z[None, :, None] + z) * np.exp(-(1.2**2)) / z[:, None, None]
    mean_log = np.einsum("i,j,k,ijk->", weights, weights, weights, np.log1p(ratio))
    value, _ = OrthogonalClasses(3, 1.2).mutual_information()
    assert value == pytest.approx(math.log(3) - mean_log, abs=1e-8)


@pytest.mark.parametrize("dim", [1, 5, 200])
def test_concentric_classes_by_the_entropies_of_the_radius(dim):
    scales = (1.0, 1.5, 4.0)
    radii = [stats.chi(dim, scale=scale) for scale in scales]
    edges = np.unique([radius.ppf(q) for radius in radii for q in (1e-17, 0.01, 0.99)])
    edges = [0, *edges, radii[-1].isf(1e-17)]
    expected = information_by_entropies(
        [radius.pdf for radius in radii], [radius.entropy() for radius in radii], edges
    )
    value, _ = ConcentricClasses(dim, scales).mutual_information()
    assert value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("dof", "offsets"), [(1.0, (0.0, 2.0, -5.0)), (2.5, (1, 2)), (300, (0, 3))]
)
def test_student_classes_by_entropies(dof, offsets):
    laws = [stats.t(dof, loc=offset) for offset in offsets]
    edges = [-np.inf, -1e3, -50, *sorted(offsets), 50, 1e3, np.inf]
    expected = information_by_entropies(
        [law.pdf for law in laws], [law.entropy() for law in laws], edges
    )
    value, _ = StudentClasses(dof, 3, offsets).mutual_information()
    assert value == pytest.approx(expected, abs=1e-8)


def test_the_error_of_the_integral_is_honest_where_the_grid_is_too_coarse():
    def log_density(s):
        return -0.5 * (s[:, None] - torch.tensor([-1.0, 1.0])) ** 2 - 0.5 * math.log(2 * math.pi)

    truth, _ = GaussianClasses(1, (1, 1), (-1.0, 1.0)).mutual_information()
    value, error = integrate_information(log_density, uniform_log_prior(2), -4e4, 4e4)
    assert 1e-4 < abs(value - truth) <= error


def test_closed_forms():
    assert NoisyXor(0.1).mutual_information() == (pytest.approx(0.3680642071684971), 0.0)
    assert NoisyXor(0.0).mutual_information() == (pytest.approx(math.log(2)), 0.0)
    assert NoisyXor(0.5).mutual_information() == (pytest.approx(0, abs=1e-15), 0.0)
    # Between 1 and m, of probability (m - 1)/m, two labels are left; elsewhere one.
    assert UniformMixture(2).mutual_information() == (pytest.approx(math.log(2) / 2), 0.0)
    assert UniformMixture(5).mutual_information() == (pytest.approx(1.0549201679861442), 0.0)
    assert Independent(100).mutual_information() == (0.0, 0.0)


def slow_ratio(log_densities, prior):
    values = np.stack(log_densities, axis=1)
    return values - np.log((np.asarray(prior) * np.exp(values)).sum(axis=1, keepdims=True))


def normals(means, scales=None):
    scales = scales or [1.0] * len(means)
    return [
        lambda x, m=m, s=s: stats.norm.logpdf(x, m, s).sum(axis=1)
        for m, s in zip(means, scales, strict=True)
    ]


@pytest.mark.parametrize(
    ("task", "log_densities"),
    [
        (OrthogonalClasses(4, 1.5), normals(1.5 * np.eye(4))),
        (RotatedGaussians(7), normals(np.outer([0, 2, -2, 4, -4], RotatedGaussians(7).direction))),
        (ConcentricClasses(3), normals(np.zeros((3, 3)), [1.0, 2.0, 4.0])),
        (
            StudentClasses(1.5, 2, (0.0, 3.0)),
            [lambda x, m=m: stats.t.logpdf(x, 1.5, (m, 0)).sum(axis=1) for m in (0, 3)],
        ),
        (UniformMixture(3), [lambda x, k=k: stats.uniform.logpdf(x[:, 0], k, 2) for k in range(3)]),
    ],
)
def test_oracles_against_densities_in_all_dimensions(task, log_densities):
    x, _ = draw(task, 500)
    expected = slow_ratio([f(x.double().numpy()) for f in log_densities], task.log_prior.exp())
    ratio = task.log_ratio(x)
    assert ratio.dtype == torch.float64
    np.testing.assert_allclose(ratio.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dof", [1.0, 3.5])
def test_samples_follow_their_laws(dof):
    x, y = draw(StudentClasses(dof, 2, (0.0, 3.0)), 20_000)
    noise = torch.stack([x[:, 0] - 3 * y, x[:, 1]])
    for column in noise:
        assert stats.kstest(column.numpy(), stats.t(dof).cdf).pvalue > 1e-3
    x, y = draw(ConcentricClasses(4), 20_000)
    radius = x.norm(dim=1) / torch.tensor([1.0, 2.0, 4.0])[y]
    assert stats.kstest(radius.numpy(), stats.chi(4).cdf).pvalue > 1e-3
    x, y = draw(UniformMixture(4), 20_000)
    assert stats.kstest((x[:, 0] - y).numpy(), stats.uniform(0, 2).cdf).pvalue > 1e-3


def test_xor_labels_are_flipped_parities_and_no_pair_of_three_tells_them():
    x, y = draw(NoisyXor(0.1, dim=3), 100_000)
    assert ((x.abs() <= 1) & (x != 0)).all()
    positive = (x > 0).long()
    wrong = ((positive.sum(dim=1) % 2) != y).float().mean().item()
    assert abs(wrong - 0.1) < 4 * (0.09 / 100_000) ** 0.5
    table = torch.bincount(4 * positive[:, 0] + 2 * positive[:, 2] + y, minlength=8)
    assert ((table - 12_500).abs() < 4 * 12_500**0.5).all()


def test_uniform_mixture_samples_are_possible_even_where_float32_rounds():
    x, y = draw(UniformMixture(100_000), 20_000)
    assert ((x[:, 0] >= y) & (x[:, 0].double() < y + 2)).all()


def test_bending_changes_the_features_and_not_the_information():
    base = GaussianClasses(4)
    bent = Bent(base)
    x, _ = draw(base, 1000)
    x = x.double()
    assert (bent.forward(x) - x).abs().mean() > 1
    torch.testing.assert_close(bent.inverse(bent.forward(x)), x, rtol=1e-12, atol=1e-12)
    ratio = bent.log_ratio(bent.forward(x))
    expected = base.log_ratio(x)
    torch.testing.assert_close(ratio, expected, rtol=1e-12, atol=1e-12)
    assert bent.mutual_information() == base.mutual_information()
    assert bent.label_entropy == base.label_entropy


@pytest.mark.parametrize("name", ZOO)
def test_a_seed_fixes_the_samples_and_exact_counts_the_classes(name):
    distribution = ZOO[name]
    x, y = draw(distribution, 1001, seed=5, exact_counts=True)
    again, other = draw(distribution, 1001, seed=5, exact_counts=True), draw(distribution, 1001)
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    assert not torch.equal(x, other[0]) and not torch.equal(y, other[1])
    counts = torch.bincount(y, minlength=distribution.num_classes)
    base = getattr(distribution, "base", distribution)
    assert counts.sum() == 1001 and ((counts - 1001 * base.log_prior.exp()).abs() <= 1).all()
    assert (y[1:] != y[:-1]).any() and not torch.equal(y, y.sort().values)  # in random order
