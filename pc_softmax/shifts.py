"""Shifted class priors, and subsets of a test set that have them. Log priors are (K,) float64."""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from mi_common.errors import UserError
from pc_softmax.priors import normalised_log

SHIFT_RATIOS = (2, 5, 10, 25, 50)
DIRICHLET_DRAWS = 5


def long_tailed_prior(counts: np.ndarray, ratio: float, *, backward: bool = False) -> np.ndarray:
    """p_k proportional to ratio^(-rank / (K - 1)), as in LADE (Hong et al. 2021): (K,) log prior.

    The largest of the (K,) training counts has rank 0; equal counts keep their order. With
    `backward`, ranks are reversed, so that the rarest training class becomes the largest.
    """
    ranks = stats.rankdata(-counts, method="ordinal") - 1
    if backward:
        ranks = len(counts) - 1 - ranks
    return normalised_log(float(ratio) ** (-ranks / (len(counts) - 1)))


def label_shifts(
    counts: np.ndarray, generator: np.random.Generator, *, ratios: tuple[int, ...] = SHIFT_RATIOS
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Names, ratios of the largest to the smallest probability, and (K,) log priors.

    They go from forward (the order of the training data) over uniform to backward. Draws from a
    flat Dirichlet distribution follow.
    """
    for ratio in reversed(ratios):
        yield "forward", ratio, long_tailed_prior(counts, ratio)
    yield "uniform", 1, long_tailed_prior(counts, 1)
    for ratio in ratios:
        yield "backward", ratio, long_tailed_prior(counts, ratio, backward=True)
    for number in range(1, DIRICHLET_DRAWS + 1):
        log_prior = np.log(generator.dirichlet(np.ones(len(counts))))
        yield f"dirichlet {number}", float(np.exp(np.ptp(log_prior))), log_prior


def resample(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A bootstrap sample within each class: (N,) labels -> (N,) positions, with repetitions."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return order[first + generator.integers(np.repeat(counts, counts))]


def sample_shifted(
    labels: np.ndarray, log_prior: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Positions of the largest subset with the given class prior, drawn without replacement.

    (N,) labels and (K,) log prior -> (M,) positions, ascending. The number of samples of a class is
    its share, rounded down, and at least one. UserError for a class without samples.
    """
    available = np.bincount(labels, minlength=len(log_prior))
    if empty := np.flatnonzero(available == 0)[:10].tolist():
        raise UserError(f"--shift: classes {empty} have no samples in the test set")
    prior = np.exp(log_prior)
    shares = (available / prior).min() * prior
    counts = np.maximum(np.floor(shares + 1e-9), 1).astype(int)  # a share of 2 may be 1.99...
    positions = [
        generator.choice(np.flatnonzero(labels == k), size=count, replace=False)
        for k, count in enumerate(counts)
    ]
    return np.sort(np.concatenate(positions))
