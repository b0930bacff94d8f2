"""The suite `tables`: laws, oracles and truths against scipy, sums over all cells and closed forms.

`test_zoo.py` compares each truth with the mean of the oracle over new samples.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from mi_estimator.tasks import tables
from mi_estimator.tasks.columns import (
    Cauchy,
    LogNormal,
    Normal,
    category,
    counts,
    rounded_normal,
)
from mi_estimator.tasks.gaussians import GaussianClasses
from mi_estimator.tasks.responses import LogisticProduct, LogisticRegression, Response
from mi_estimator.tasks.table_suite import TABLES
from mi_estimator.tasks.tables import Table

RESPONSES = [name for name, task in TABLES.items() if isinstance(task, Response)]


def draw(distribution, n, seed=0, **kwargs):
    return distribution.sample(n, torch.Generator().manual_seed(seed), **kwargs)


def information(joint):
    """I(X;Y) of a (K, cells) table of probabilities."""
    of_class, of_cell = joint.sum(axis=1), joint.sum(axis=0)
    return stats.entropy(of_class) + stats.entropy(of_cell) - stats.entropy(joint.ravel())


def inflated_pmf(n, rate, zeros):
    return (1 - zeros) * stats.poisson(rate).pmf(n) + zeros * (n == 0)


def rounded_pmf(x, mean, scale, unit):
    law = stats.norm(mean, scale)
    return law.cdf(x + unit / 2) - law.cdf(x - unit / 2)


@pytest.mark.parametrize(
    ("column", "density", "points"),
    [
        (Normal([1, -2], [1, 3]), [stats.norm(1, 1).pdf, stats.norm(-2, 3).pdf], [-3.0, 0.5, 4]),
        (  # densities of log x
            LogNormal([1, 0], [0.5, 2]),
            [
                lambda x, s=s, m=m: x * stats.lognorm(s, scale=m).pdf(x)
                for s, m in ((0.5, math.e), (2, 1))
            ],
            [0.01, 1.0, 30.0],
        ),
        (  # densities of log |x|
            Cauchy([1, 5]),
            [lambda x, s=s: 2 * np.abs(x) * stats.cauchy(0, s).pdf(x) for s in (1, 5)],
            [-1e6, -0.1, 2.0],
        ),
        (
            counts([2, 7], [0.3, 0.0]),
            [lambda n: inflated_pmf(n, 2, 0.3), lambda n: inflated_pmf(n, 7, 0)],
            [0, 1, 5, 20],
        ),
        (
            rounded_normal([0, 1], [1, 2], 0.5),
            [lambda x: rounded_pmf(x, 0, 1, 0.5), lambda x: rounded_pmf(x, 1, 2, 0.5)],
            [-4.5, 0, 0.5, 3],
        ),
    ],
)
def test_columns_have_their_densities(column, density, points):
    x = torch.tensor(points, dtype=torch.float64)[:, None]
    expected = np.stack([f(np.array(points)) for f in density], axis=1)
    np.testing.assert_allclose(column.log_density(x)[:, :, 0].exp(), expected, rtol=1e-9)
    nodes, weights = column.nodes(0.1)
    mass = weights @ column.log_density(nodes)[:, :, 0].exp()
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-12)


def test_quantiles_of_columns_are_those_of_scipy():
    u = np.array([1e-6, 0.2, 0.45, 0.8, 0.999])
    laws = [
        (Normal(3, 2), stats.norm(3, 2)),
        (LogNormal(3, 2), stats.lognorm(2, scale=math.exp(3))),
        (Cauchy(4), stats.cauchy(0, 4)),
        (counts(6), stats.poisson(6)),
    ]
    for column, law in laws:
        values = column.quantile(lambda p: p[0, 0].expand(5, *p.shape[2:]), torch.tensor(u))
        np.testing.assert_allclose(values[:, 0], law.ppf(u), rtol=1e-9)


def test_samples_of_a_table_follow_the_laws_of_class_and_component():
    means, levels = [[0.0, 4.0], [10.0, 10.0]], [[[1, 0.001], [0.001, 1]], [[1, 1], [1, 1]]]
    table = Table((Normal(means), category(levels), counts([1.0, 9.0])), (3, 1), 2, noise=1)
    x, y = draw(table, 20_000)
    assert x.shape == (20_000, 5) and abs((y == 1).float().mean() - 0.25) < 0.013
    second = x[:, 2] == 1  # the component of class 0, nearly always
    assert stats.kstest(x[(y == 0) & second, 0], stats.norm(4).cdf).pvalue > 1e-4
    assert abs(second[y == 0].double().mean() - 0.5) < 0.02
    assert stats.kstest(x[y == 1, 0], stats.norm(10).cdf).pvalue > 1e-3
    for k, rate in enumerate((1, 9)):
        assert abs(x[y == k, 3].mean() - rate) < 4 * (rate / (y == k).sum()) ** 0.5
    assert stats.kstest(x[:, 4], stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dim", [1, 2, 8])
def test_normal_columns_are_gaussian_classes(dim):
    """By the trapezoidal rule up to two dimensions, by samples in eight."""
    gaussians = GaussianClasses(dim, (1, 2, 3), (-0.3, 0.0, 0.6))
    table = Table(tuple(Normal(gaussians.offsets) for _ in range(dim)), (1, 2, 3), noise=1)
    value, error = table.mutual_information()
    assert abs(value - gaussians.mutual_information()[0]) <= error
    assert error < (1e-11 if dim < 8 else 3e-4)
    x, _ = draw(table, 100)
    torch.testing.assert_close(table.log_ratio(x), gaussians.log_ratio(x[:, :dim]))


@pytest.mark.parametrize("name", ["clusters", "fraud0.002", "rounded", "heavy-tails"])
def test_samples_and_integral_agree_on_the_truth(name, monkeypatch):
    exact, _ = TABLES[name].mutual_information()
    monkeypatch.setattr(tables, "GRID_POINTS", 0)
    value, error = tables._information.__wrapped__(TABLES[name])
    assert abs(value - exact) <= error < 3e-4


def test_a_table_of_discrete_columns_is_the_sum_over_its_cells():
    first = np.array([[[5, 1, 1], [1, 2, 2]], [[1, 1, 4], [3, 3, 1]]], dtype=float)
    second = np.array([[[1, 3], [2, 1]], [[1, 1], [4, 1]]], dtype=float)
    p, q = (w / w.sum(axis=-1, keepdims=True) for w in (first, second))
    joint = np.einsum("kma,kmb,k->kab", p, q, [0.7 / 2, 0.3 / 2])
    expected = information(joint.reshape(2, 6))
    table = Table((category(first), category(second)), (7, 3), components=2)
    assert table.mutual_information()[0] == pytest.approx(expected, abs=1e-12)
    x = torch.eye(3)[[0, 2]], torch.eye(2)[[1, 1]]
    ratio = joint / joint.sum(axis=0) / joint.sum(axis=(1, 2), keepdims=True)
    of_cells = np.log(ratio[:, [0, 2], [1, 1]]).T
    np.testing.assert_allclose(table.log_ratio(torch.cat(x, dim=1)), of_cells, rtol=1e-6)


def test_amounts_and_returns_by_the_sum_over_a_grid():
    log_x, log_y = np.linspace(-18, 20, 500)[:, None, None], np.linspace(-30, 30, 500)[:, None]
    amounts = stats.norm([0.0, 0.5, 1.5], [1.0, 2.0, 1.0]).pdf(log_x)
    returns = stats.cauchy(0, [1.0, 4.0, 0.3]).pdf(np.exp(log_y)) * np.exp(log_y)
    joint = (np.array([0.5, 0.25, 0.25]) * amounts * returns).reshape(-1, 3).T
    value, _ = TABLES["heavy-tails"].mutual_information()
    assert value == pytest.approx(information(joint / joint.sum()), abs=1e-9)


@pytest.mark.parametrize("name", ["spirals", "clusters"])
def test_clusters_are_sums_of_gaussians(name):
    task = TABLES[name]
    x, _ = draw(task, 50)
    centres = np.stack([column.means for column in task.columns], axis=2)
    scale = task.columns[0].scales.item()
    squares = ((x.numpy()[:, None, None, :2].astype(float) - centres) ** 2).sum(axis=3)
    density = np.exp(-squares / (2 * scale**2)).sum(axis=2)
    expected = np.log(density / density.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(task.log_ratio(x), expected, atol=1e-9)


def test_one_in_five_hundred():
    for n in (500, 2_000, 10_000):
        _, y = draw(TABLES["fraud0.002"], n, exact_counts=True)
        assert torch.bincount(y).tolist() == [n - n // 500, n // 500]


def test_copies_and_sums_tell_nothing_new():
    task = TABLES["collinear"]
    x, _ = draw(task, 20_000)
    z = x[:, : task.base.dim]
    assert torch.linalg.matrix_rank(x, rtol=1e-5) == task.dim - 4  # a copy and three sums
    assert torch.equal(x[:, 6], x[:, 0]) and torch.equal(x[:, 7], x[:, 0] + x[:, 1])
    for j, (column, noise) in enumerate(((0, 0.1), (1, 0.5))):
        difference = x[:, 10 + j] - x[:, column]
        assert stats.kstest(difference, stats.norm(0, noise).cdf).pvalue > 1e-3
    assert torch.equal(task.log_ratio(x), task.base.log_ratio(z))
    assert task.mutual_information() == task.base.mutual_information()


@pytest.mark.parametrize("intercept", [0.0, -1.5])
def test_logistic_regression_by_quadrature(intercept):
    def rare(s):
        return special.expit(2 * s + intercept) * stats.norm.pdf(s)

    def conditional(s):
        p = special.expit(2 * s + intercept)
        return (special.entr(p) + special.entr(1 - p)) * stats.norm.pdf(s)

    p = integrate.quad(rare, -12, 12, epsabs=1e-12)[0]
    expected = special.entr([p, 1 - p]).sum() - integrate.quad(conditional, -12, 12)[0]
    task = LogisticRegression(7, 2.0, intercept, 0.7)
    assert task.mutual_information()[0] == pytest.approx(expected, abs=1e-8)
    assert task.log_prior[1].exp().item() == pytest.approx(p, abs=1e-10)
    x = task.draw(50_000, torch.Generator().manual_seed(0))
    lags = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    np.testing.assert_allclose(np.cov(x.numpy().T), 0.7**lags, atol=0.03)
    assert stats.kstest(task.scores(x.double())[:, 0], stats.norm.cdf).pvalue > 1e-3


def test_a_product_by_the_law_of_products():
    """x_1 x_2 has the density K_0(|t|) / pi."""

    def integrand(t):
        p = special.expit(3 * t)
        return 2 * (special.entr(p) + special.entr(1 - p)) * special.k0(t) / math.pi

    expected = math.log(2) - integrate.quad(integrand, 0, 40, epsabs=1e-11, limit=200)[0]
    assert LogisticProduct(5, 3.0).mutual_information()[0] == pytest.approx(expected, abs=1e-9)


def test_the_leaves_of_the_tree_are_its_cells():
    task = TABLES["tree-d20"]
    rows = np.array(
        [
            [0.125 * np.array([0.90, 0.05, 0.05])],
            [0.125 * np.array([0.10, 0.80, 0.10])],
            [0.75 * 0.625 / 2 * np.array([0.05, 0.15, 0.80])],
            [0.75 * 0.625 / 2 * np.array([0.70, 0.20, 0.10])],
            [0.75 * 0.375 * np.array([0.10, 0.85, 0.05])],
        ]
    )[:, 0]
    expected = information(rows.T)
    assert task.mutual_information()[0] == pytest.approx(expected, abs=1e-12)
    x = torch.full((5, 20), 0.75)
    x[0, :2], x[1, 0], x[2, 2:4], x[3, 2] = 0.1, 0.1, 0.3, 0.3  # one in each leaf
    posterior = (task.log_ratio(x) + task.log_prior).exp()
    np.testing.assert_allclose(posterior, rows / rows.sum(axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("name", RESPONSES)
def test_features_drawn_after_the_label_have_the_law_of_features_before_it(name):
    """E[p(j | x) | k] = E[p(j | x) p(k | x)] / p(k), the second over features without a label."""
    task, generator = TABLES[name], torch.Generator().manual_seed(3)
    x = task.draw(200_000, generator).double()
    posterior = task.log_posterior(task.scores(x)).exp()
    x, y = draw(task, 50_000, seed=4, exact_counts=True)
    of_samples = (task.log_ratio(x) + task.log_prior).exp()
    torch.testing.assert_close(posterior.mean(dim=0), task.log_prior.exp(), rtol=0, atol=4e-3)
    for k in range(task.num_classes):
        expected = (posterior * posterior[:, k : k + 1]).mean(dim=0) / posterior[:, k].mean()
        torch.testing.assert_close(of_samples[y == k].mean(dim=0), expected, rtol=0, atol=1.2e-2)


def test_the_ordinal_label_is_a_quintile_of_a_noisy_sum():
    task, rng = TABLES["quintiles-d8"], np.random.default_rng(0)
    x = rng.standard_normal((100_000, 8))
    value = (
        np.sin(2 * x[:, 0]) + x[:, 1] ** 2 / 2 + x[:, 2] / 2 + 0.5 * rng.standard_normal(100_000)
    )
    y = np.digitize(value, task.bounds)
    assert np.abs(np.bincount(y) / len(y) - 0.2).max() < 0.006
    ratio = task.log_ratio(torch.tensor(x).float()).numpy()[np.arange(len(y)), y]
    truth, _ = task.mutual_information()
    assert abs(ratio.mean() - truth) < 4 * ratio.std() / len(y) ** 0.5


@pytest.mark.parametrize("name", TABLES)
def test_float32_samples_are_precise_enough_for_the_oracle(name):
    """All finite, and the last bit of a continuous feature changes next to nothing."""
    task = TABLES[name]
    x, y = draw(task, 5_000, seed=6)
    ratio = task.log_ratio(x)
    own = ratio[torch.arange(len(y)), y]
    assert x.isfinite().all() and own.isfinite().all()
    moved = task.log_ratio(torch.nextafter(x, torch.full_like(x, torch.inf)))
    assert (moved - ratio).abs().max() < 1e-3
