"""P-values of independence: slow versions, all permutations, uniform where nothing depends."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from mi_common.runtime import Runtime
from mi_estimator.estimators.baselines import SklearnMI
from mi_estimator.estimators.critics import BOUNDS, CriticMI
from mi_estimator.estimators.crossfit import CrossFit, cross_fit
from mi_estimator.estimators.neighbours import NeighbourFit, NeighbourMI
from mi_estimator.estimators.registry import NEIGHBOUR_METHODS


def samples(n: int, shift: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two equal classes, `shift` apart in both of two features."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    return torch.randn(n, 2, generator=generator) + shift * y[:, None], y


def scored(n: int = 27, prior_is_known: bool = False) -> CrossFit:
    """Random log ratios of three classes on three folds."""
    generator = torch.Generator().manual_seed(4)
    ratio = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 0]).repeat(n)[:n]
    folds = torch.randint(3, (n,), generator=generator)
    prior = torch.tensor([0.1, 0.6, 0.3]).double()
    if not prior_is_known:
        prior = torch.bincount(labels) / n
    return CrossFit(ratio, prior.log(), prior_is_known, labels, folds, torch.zeros(n), 0.0)


@pytest.mark.parametrize("prior_is_known", [False, True])
def test_permutations_stay_within_folds_as_in_a_slow_version(prior_is_known):
    found = scored(prior_is_known=prior_is_known)
    n, y, folds = 27, found.labels.tolist(), found.folds.tolist()
    weight = [found.log_prior[k].exp().item() / y.count(k) for k in range(3)]
    generator = torch.Generator().manual_seed(7)
    observed = sum(weight[y[i]] * found.log_ratio[i, y[i]].item() for i in range(n))
    reached = 0
    for _ in range(200):
        shuffled = torch.randperm(n, generator=generator).tolist()
        total = 0.0
        for fold in range(3):
            donors = [y[j] for j in shuffled if folds[j] == fold]
            takers = [i for i in range(n) if folds[i] == fold]
            for i, label in zip(takers, donors, strict=True):
                total += weight[label] * found.log_ratio[i, label].item()
        reached += total >= observed - 1e-9
    assert 0 < reached < 200
    assert found.permutation_p_value(200, seed=7) == (1 + reached) / 201


def test_the_p_value_approaches_that_of_all_permutations():
    found = scored(9)
    sums = []
    for fold in range(3):
        own = (found.folds == fold).nonzero().flatten()
        orders = itertools.permutations(found.labels[own].tolist())
        sums.append([found.log_ratio[own, list(order)].sum().item() for order in orders])
    totals = sums[0]
    for more in sums[1:]:
        totals = np.add.outer(totals, more)
    observed = found.log_ratio[range(9), found.labels].sum().item()
    exact = np.mean(totals >= observed - 1e-9)
    assert 0.05 < exact < 0.95 and totals.size > 100
    assert found.permutation_p_value(4000, seed=0) == pytest.approx(exact, abs=0.03)


def lda_fit(n: int, shift: float, seed: int) -> CrossFit:
    x, y = samples(n, shift, seed)
    return cross_fit(lambda s: SklearnMI("lda", seed=s), x, y, folds=3, seed=seed)


def critic_fit(bound: str, n: int, shift: float, seed: int, **options) -> tuple[CrossFit, list]:
    """Small critics, one a fold, and what cross-fitting makes of them."""
    made = []
    options = {"hidden": (16,), "epochs": 3, "batch_size": 20, "lr": 0.02} | options

    def build(seed: int) -> CriticMI:
        made.append(CriticMI(bound, runtime=Runtime(torch.device("cpu")), seed=seed, **options))
        return made[-1]

    return cross_fit(build, *samples(n, shift, seed), folds=2, seed=seed), made


def neighbour_fit(method: str, n: int, shift: float, seed: int) -> NeighbourFit:
    """On one thread, of which more cost more here than they bring."""
    x, y = samples(n, shift, seed)
    estimator = NeighbourMI(method, seed=seed, max_samples=n)
    return NeighbourFit(estimator, x, y, estimator.estimate(x, y).pointwise)


FITS = {
    "lda": (lda_fit, 60),
    "mine": (lambda *case: critic_fit("mine", *case)[0], 60),
    **{
        name: (lambda *case, name=name: neighbour_fit(name, *case), 24)
        for name in NEIGHBOUR_METHODS
    },
}


@pytest.mark.parametrize("name", FITS)
def test_p_values_are_about_uniform_under_independence(name):
    fit, n = FITS[name]
    p = np.array([fit(n, 0.0, seed).permutation_p_value(39, seed) for seed in range(100)])
    assert 0.01 <= np.mean(p <= 0.05) <= 0.12
    assert 0.4 < p.mean() < 0.6 and p.min() >= 1 / 40


@pytest.mark.parametrize("name", [*FITS, "nwj", "infonce", "smile"])
def test_dependence_gives_the_least_p_value_there_can_be(name):
    fit, _ = FITS.get(name) or (lambda *case: critic_fit(name, *case, epochs=10)[0], 0)
    found = fit(120, 2.0, 0)
    assert found.permutation_p_value(199, seed=0) == 1 / 200
    assert found.permutation_p_value(199, seed=1) == 1 / 200


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
def test_neighbours_are_counted_anew_for_each_permutation_as_in_a_slow_version(method):
    x, y = samples(40, 0.6, seed=1)
    found = NeighbourFit.of(method, x, y, seed=3)
    estimator = NeighbourMI(method, seed=3)
    observed = estimator.estimate(x, y).value
    assert found.estimate().value == pytest.approx(observed, abs=1e-12)
    generator = torch.Generator().manual_seed(9)
    reached = 0
    for _ in range(60):
        order = torch.randperm(40, generator=generator)
        reached += estimator.estimate(x, y[order]).value >= observed - 1e-9
    assert 0 < reached < 60
    assert found.permutation_p_value(60, seed=9) == (1 + reached) / 61
    assert found.permutation_p_value(0, seed=9) == 1


def test_neighbours_of_a_fit_are_those_of_all_samples():
    """Beyond the 20,000 that the benchmark's default draws."""
    x, y = samples(20_100, 1.0, seed=0)
    found = NeighbourFit.of("ross", x, y, seed=0)
    assert found.pointwise.shape == (20_100,)
    assert found.estimate().value == pytest.approx(found.pointwise.mean().item(), abs=1e-12)


def shuffled_within_folds(found: CrossFit, seed: int) -> Tensor:
    """(N,) labels of a permutation that stays within folds."""
    rng, order = np.random.default_rng(seed), np.arange(len(found.labels))
    for fold in found.folds.unique().tolist():
        own = np.flatnonzero(found.folds == fold)
        order[own] = rng.permutation(own)
    return found.labels[order]


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_critics_bound_and_the_mean_log_ratio_order_permutations_alike(bound):
    """They differ by a constant; of InfoNCE only while a fold is one batch, as here.

    Its smaller batches have class frequencies that a permutation changes.
    """
    found, critics = critic_fit(bound, 60, 0.5, seed=0, batch_size=30)
    x, _ = samples(60, 0.5, seed=0)
    bounds, ratios = [], []
    for seed in range(40):
        labels = shuffled_within_folds(found, seed) if seed else found.labels
        terms = torch.empty(60, dtype=torch.float64)
        for fold, critic in enumerate(critics):
            own = found.folds == fold
            terms[own] = critic.terms(x[own], labels[own]).double()
        bounds.append(terms.mean().item())
        ratios.append(found.log_ratio.gather(1, labels[:, None]).mean().item())
    assert bounds[0] == pytest.approx(found.estimate().value, abs=1e-9)
    difference = np.subtract(bounds, ratios)
    assert difference == pytest.approx(difference[0], abs=1e-6)
    assert np.std(ratios) > 0.01
    assert np.argsort(bounds).tolist() == np.argsort(ratios).tolist()
