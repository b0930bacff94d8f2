"""Nearest-neighbour estimators of I(X;Y) for a discrete label: Ross 2014 and Gao et al. 2017.

estimate = NeighbourMI("ross").fit(x_train, y_train).estimate(x, y)

Nothing is trained: the estimate uses the samples given to `estimate` alone. Distances are maximum
norms over features scaled to unit variance. Up to 15 dimensions scipy's k-d tree finds neighbours.
Beyond, a tree saves no work and all pairs are compared: some 10 s for 10,000 samples in 100
dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma
from sklearn.base import clone
from torch import Tensor

from mi_estimator.estimators.base import Estimator, MIEstimate

TREE_DIMENSIONS = 15


def ross_pointwise(x: np.ndarray, y: np.ndarray, k: int, *, workers: int = 1) -> np.ndarray:
    """Ross 2014 (PLoS ONE 9(2) e87357, eq. 6), a term a sample, in nats.

        psi(N) + psi(k) - psi(N_y) - psi(m)

    m counts the samples of any class within the distance of the k-th neighbour in the sample's own
    class, without the sample itself. In a class of at most k samples, k is one less than its size.
    A class of one sample has no neighbour: as in the author's code its k is 1 and its m is twice
    the number of classes, so that no sample is left out.

    (N, d) samples x without ties, from a continuous distribution, and (N,) integer labels y from 0
    -> (N,), whose mean is the estimate. `workers` are threads of the k-d tree; -1 takes all cores.
    """
    radius, used, size = _class_neighbours(x, y, k, workers)
    within = _count(x, radius, workers) - 1
    within[used == 0] = 2 * len(np.unique(y))
    return digamma(len(y)) + digamma(np.maximum(used, 1)) - digamma(size) - digamma(within)


def mixed_ksg_pointwise(x: np.ndarray, y: np.ndarray, k: int, *, workers: int = 1) -> np.ndarray:
    """Gao et al. 2017 (arXiv 1709.06212, algorithm 1) for a label, a term a sample, in nats.

        psi(k') + log N - psi(n_x) - psi(n_y)

    n_x counts the samples, itself included, nearer than the k-th neighbour, k' is k; where k
    neighbours or more coincide with the sample, n_x counts those that coincide and k' those of
    them in its class. So features may be discrete, continuous or both. Labels are nominal: two
    classes are infinitely far apart and n_y is the size of the class. As in the authors' code,
    the counts enter through psi, where the paper has the logarithm. Without ties this is Ross's
    value plus log N - psi(N), about 1/2N. Small classes, arguments and result are as for Ross.
    """
    radius, used, size = _class_neighbours(x, y, k, workers)
    # Rounding moves equal distances apart by a few ulp; they must all stay outside.
    within = _count(x, radius * (1 - 1e-12), workers)
    within[used == 0] = 2 * len(np.unique(y))
    pairs = np.column_stack((x, y))
    _, index, coincident = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    used = np.where((radius == 0) & (used > 0), coincident[index.ravel()], np.maximum(used, 1))
    return digamma(used) + np.log(len(y)) - digamma(within) - digamma(size)


def _class_neighbours(
    x: np.ndarray, y: np.ndarray, k: int, workers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the k-th neighbour of the same class, the k used, and the size of the class."""
    sizes = np.bincount(y)
    radius = np.zeros(len(y))
    for members in np.split(np.argsort(y, kind="stable"), np.cumsum(sizes)[:-1]):
        if len(members) > 1:
            # The nearest point of the tree is the sample itself.
            rank = min(k, len(members) - 1) + 1
            radius[members] = _distance(x[members], rank, workers)
    return radius, np.minimum(k, sizes - 1)[y], sizes[y]


def _distance(x: np.ndarray, rank: int, workers: int) -> np.ndarray:
    """From each sample to the one of the given rank, itself being the first."""
    if x.shape[1] <= TREE_DIMENSIONS:
        return cKDTree(x).query(x, [rank], p=np.inf, workers=workers)[0][:, 0]
    return np.concatenate([np.partition(d, rank - 1)[:, rank - 1] for _, d in _all_distances(x)])


def _count(x: np.ndarray, radius: np.ndarray, workers: int) -> np.ndarray:
    """Samples within each sample's radius, bounds and the sample itself included."""
    if x.shape[1] <= TREE_DIMENSIONS:
        return cKDTree(x).query_ball_point(x, radius, p=np.inf, workers=workers, return_length=True)
    return np.concatenate([(d <= radius[i, None]).sum(axis=1) for i, d in _all_distances(x)])


def _all_distances(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(256, N) distances at a time, with the rows they belong to."""
    for start in range(0, len(x), 256):
        rows = slice(start, start + 256)
        yield rows, cdist(x[rows], x, "chebyshev")


class NeighbourMI(Estimator):
    """A nearest-neighbour estimator.

    The value is no bound on I(X;Y). Its bias falls slowly with N and grows with the dimension and
    with I itself. The interval comes from the standard error of the terms and ignores the bias.
    """

    def __init__(
        self,
        method: str = "ross",
        *,
        seed: int = 0,
        k: int = 3,
        max_samples: int = 20_000,
        workers: int = 1,
    ):
        """One of METHODS with k neighbours; `workers` are threads, of which -1 takes all cores.

        `seed` selects at most `max_samples`, as time grows faster than their number, and draws
        Ross's noise.
        """
        self.method, self.seed, self.k = method, seed, k
        self.max_samples, self.workers = max_samples, workers

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "NeighbourMI":
        return self

    def estimate(self, x, y) -> MIEstimate:
        """The estimate on any samples: `fit` learns nothing."""
        return Estimator.estimate(clone(self).fit(x, y), x, y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        """The terms of all samples, in order, or of `max_samples` drawn at random.

        Ross's method assumes continuous features, so noise of 1e-10 standard deviations breaks
        ties.
        """
        generator = np.random.default_rng(self.seed)
        if len(y) > self.max_samples:
            rows = generator.choice(len(y), self.max_samples, replace=False)
            x, y = x.cpu()[rows], y.cpu()[rows]
        features, labels = x.cpu().double().numpy(), y.cpu().numpy()
        spread = features.std(axis=0)
        features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        pointwise, breaks_ties = METHODS[self.method]
        if breaks_ties:
            features += 1e-10 * generator.standard_normal(features.shape)
        return torch.from_numpy(pointwise(features, labels, self.k, workers=self.workers))


# Name -> terms of the samples, and whether noise breaks ties first.
METHODS = {"ross": (ross_pointwise, True), "mixed-ksg": (mixed_ksg_pointwise, False)}


@dataclass(frozen=True)
class NeighbourFit:
    """A neighbours' estimate on all samples, with the methods of `CrossFit`.

    `pointwise` holds the (N,) terms of the estimate, in the order of x.
    """

    estimator: NeighbourMI
    x: Tensor
    labels: Tensor
    pointwise: Tensor

    @classmethod
    def of(cls, method: str, x: Tensor, y: Tensor, *, seed: int, k: int = 3) -> "NeighbourFit":
        """Uses all samples of checked (N, d) features and (N,) labels, however many."""
        estimator = NeighbourMI(method, seed=seed, k=k, max_samples=len(y), workers=-1)
        return cls(estimator, x, y, estimator.terms(x, y))

    def estimate(self) -> MIEstimate:
        return MIEstimate.from_pointwise(self.pointwise)

    def permutation_p_value(self, permutations: int, seed: int) -> float:
        """P-value of independence: the estimate is repeated for each permutation of the labels.

        It is (1 + number that reach the estimate) / (1 + permutations).
        """
        generator = torch.Generator().manual_seed(seed)
        observed = self.pointwise.mean()
        reached = 0
        for _ in range(permutations):
            shuffled = self.labels[torch.randperm(len(self.labels), generator=generator)]
            reached += int(self.estimator.terms(self.x, shuffled).mean() >= observed - 1e-12)
        return (1 + reached) / (1 + permutations)
