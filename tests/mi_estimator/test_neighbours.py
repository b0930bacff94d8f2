"""Nearest-neighbour estimators: slow versions, scikit-learn, exact values, counts by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif

from mi_estimator.estimators import neighbours
from mi_estimator.estimators.neighbours import NeighbourMI, mixed_ksg_pointwise, ross_pointwise
from mi_estimator.estimators.registry import NEIGHBOUR_METHODS
from mi_estimator.tasks.suites import SUITES


def distances(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, None] - x[None]).max(axis=2)


def slow_ross(x: np.ndarray, y: np.ndarray, k: int) -> list[float]:
    """The author's description, a sample at a time."""
    terms, n, distance = [], len(y), distances(x)
    for i in range(n):
        own = sorted(distance[i, j] for j in range(n) if j != i and y[j] == y[i])
        used = min(k, len(own))
        if used:
            m = sum(distance[i, j] <= own[used - 1] for j in range(n) if j != i)
        else:
            used, m = 1, 2 * len(set(y))
        terms.append(digamma(n) + digamma(used) - digamma(len(own) + 1) - digamma(m))
    return terms


def slow_mixed_ksg(x: np.ndarray, y: np.ndarray, k: int) -> list[float]:
    """Gao's algorithm for two numeric sides; labels are corners of a huge simplex."""
    labels = 1e9 * np.eye(y.max() + 1)[y]
    terms, n = [], len(y)
    in_x, in_y = distances(x), distances(labels)
    joint = np.maximum(in_x, in_y)
    for i in range(n):
        radius = np.sort(joint[i])[k]
        if radius == 0:
            used, n_x, n_y = ((d[i] == 0).sum() for d in (joint, in_x, in_y))
        else:
            used, n_x, n_y = k, *((d[i] < radius - 1e-13).sum() for d in (in_x, in_y))
        terms.append(digamma(used) + math.log(n) - digamma(n_x) - digamma(n_y))
    return terms


@pytest.mark.parametrize("dim", [1, 3, 20])  # 20 is beyond the tree
@pytest.mark.parametrize("k", [1, 3, 5])
def test_ross_agrees_with_the_slow_version_whatever_the_class_sizes(dim, k):
    generator = np.random.default_rng(10 * dim + k)
    y = np.repeat(np.arange(6), [70, 40, 20, 4, 2, 1])  # from many times k to a single sample
    x = generator.normal(size=(len(y), dim)) + y[:, None]
    assert ross_pointwise(x, y, k) == pytest.approx(slow_ross(x, y, k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_mixed_ksg_agrees_with_the_slow_version_on_continuous_and_discrete_features(k):
    generator = np.random.default_rng(k)
    y = generator.integers(3, size=150)
    lattice = generator.integers(3, size=(150, 2)) / 7.0
    continuous = generator.normal(size=(150, 1)) + y[:, None]
    half = np.where(generator.random((150, 1)) < 0.5, 0.25, continuous)  # an atom and a density
    both = np.hstack([lattice[:, :1], continuous])
    wide = np.hstack([generator.normal(size=(150, 17)), both])  # beyond the tree
    many = np.tile(lattice, 8)  # so too, all ties
    for x in (continuous, lattice, half, both, wide, many):
        assert mixed_ksg_pointwise(x, y, k) == pytest.approx(slow_mixed_ksg(x, y, k), abs=1e-12)


def test_by_hand():
    """Radii 1, 1, 2 hold one sample each; the lone sample has m = 2 classes times 2."""
    x, y = np.array([[0.0], [1.0], [3.0], [10.0]]), np.array([0, 0, 0, 1])
    assert ross_pointwise(x, y, 1) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


@pytest.mark.parametrize("k", [2, 3, 7])
def test_ross_agrees_with_scikit_learn_in_one_dimension(k):
    """Its noise of 1e-10 moves no count here, and its scaling moves none in one dimension.

    It takes the radius open and counts the sample itself, which is the same without ties; its
    cut at zero is out of reach.
    """
    generator = np.random.default_rng(k)
    y = generator.integers(4, size=1000)
    x = generator.normal(size=(1000, 1)) + y[:, None]
    theirs = mutual_info_classif(
        x, y, discrete_features=False, n_neighbors=k, random_state=0, n_jobs=1
    )[0]
    ours = NeighbourMI("ross", k=k).estimate(torch.from_numpy(x), torch.from_numpy(y))
    assert theirs > 0.3
    assert ours.value == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
@pytest.mark.parametrize("n", [255, 256, 600])
def test_all_pairs_and_the_tree_give_the_same(method, n, monkeypatch):
    """All pairs are compared some hundred rows at a time."""
    generator = torch.Generator().manual_seed(n)
    y = torch.randint(3, (n,), generator=generator)
    x = torch.randn(n, 4, generator=generator) + y[:, None]
    tree = NeighbourMI(method).estimate(x, y)
    monkeypatch.setattr(neighbours, "TREE_DIMENSIONS", 3)
    pairs = NeighbourMI(method).estimate(x, y)
    assert torch.equal(pairs.pointwise, tree.pointwise)


def test_without_ties_the_two_differ_by_log_n_minus_digamma_n():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 2)), generator.integers(4, size=300)
    difference = mixed_ksg_pointwise(x, y, 3) - ross_pointwise(x, y, 3)
    assert difference == pytest.approx(np.full(300, np.log(300) - digamma(300)), abs=1e-12)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
@pytest.mark.parametrize("name", ["gaussian-d1-balanced", "gaussian-d2-imbalanced"])
def test_error_on_the_paper_s_gaussians_falls_with_the_samples(method, name):
    task = SUITES["paper"][name].distribution
    truth, _ = task.mutual_information()
    for n, tolerance in ((500, 0.15), (20_000, 0.02)):
        x, y = task.sample(n, torch.Generator().manual_seed(1))
        estimate = NeighbourMI(method).fit(x, y).estimate(x, y)
        assert estimate.value == pytest.approx(truth, abs=tolerance)
        assert estimate.lower < estimate.value < estimate.upper
        assert estimate.pointwise.shape == (n,)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
def test_independent_features_give_about_zero(method):
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(20):
        x = torch.randn(500, 2, generator=generator)
        y = torch.randint(10, (500,), generator=generator)
        values.append(NeighbourMI(method).estimate(x, y).value)
    assert abs(np.mean(values)) < 0.02
    assert min(values) < 0  # not cut at zero


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
@pytest.mark.parametrize("m", [2, 5, 20])
def test_gao_s_mixture_of_a_discrete_and_a_uniform(method, m):
    """Y uniform on 0..m-1, X uniform on [Y, Y + 2]: I = log m - (m - 1)/m log 2."""
    generator = torch.Generator().manual_seed(m)
    y = torch.randint(m, (10_000,), generator=generator)
    x = y[:, None] + 2 * torch.rand(10_000, 1, generator=generator)
    truth = math.log(m) - (m - 1) / m * math.log(2)
    assert NeighbourMI(method).estimate(x, y).value == pytest.approx(truth, abs=0.025)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
@pytest.mark.parametrize("extra", [False, True])
def test_a_flipped_bit_with_and_without_a_continuous_companion(method, extra):
    """All samples of a value coincide: I = log 2 - H_b(0.1) all the same."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (4000,), generator=generator)
    flipped = torch.rand(4000, generator=generator) < 0.1
    x = torch.where(flipped, 1 - y, y)[:, None].float()
    if extra:
        x = torch.cat([x, torch.randn(4000, 1, generator=generator)], dim=1)
    truth = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    assert NeighbourMI(method).estimate(x, y).value == pytest.approx(truth, abs=0.04)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
def test_order_class_names_scale_place_and_constant_features_do_not_matter(method):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (400,), generator=generator)
    x = torch.randn(400, 2, generator=generator, dtype=torch.float64) + y[:, None]
    reference = NeighbourMI(method).estimate(x, y)
    order = torch.randperm(400, generator=generator)
    permuted = NeighbourMI(method).estimate(x[order], y[order])
    torch.testing.assert_close(permuted.pointwise, reference.pointwise[order])
    renamed = torch.tensor([7, 0, 4])[y]  # numbers in between stand for no class
    scaled = x * torch.tensor([1e-3, 1e6]) + torch.tensor([5.0, -3e6])
    constant = torch.cat([x, torch.full((400, 1), 0.1)], dim=1)
    for other_x, other_y in ((x, renamed), (scaled, y), (constant, y)):
        value = NeighbourMI(method).estimate(other_x, other_y).value
        assert value == pytest.approx(reference.value, abs=1e-9)


def test_more_samples_than_allowed_are_drawn_by_the_seed():
    task = SUITES["paper"]["gaussian-d1-balanced"].distribution
    x, y = task.sample(5000, torch.Generator().manual_seed(0))
    first, again, other = (
        NeighbourMI(seed=seed, max_samples=1000).estimate(x, y) for seed in (0, 0, 1)
    )
    assert first.pointwise.shape == (1000,)
    assert torch.equal(first.pointwise, again.pointwise)
    assert not torch.equal(first.pointwise, other.pointwise)
    assert first.value == pytest.approx(task.mutual_information()[0], abs=0.1)
