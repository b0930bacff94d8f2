"""Nearest-neighbour estimators of I(X;Y) for a discrete label: Ross 2014 and Gao et al. 2017.

estimate = NeighbourMI("ross", runtime=runtime).fit(x_train, y_train).estimate(x, y)

Nothing is trained: the estimate is made of the samples given to `estimate`. Distances are maximum
norms over features scaled to unit variance, on scipy's k-d tree in up to 15 dimensions; beyond, a
tree spares no work and all pairs are compared, 10,000 samples in 100 dimensions in some 10 s.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma
from torch import Tensor

from mi_common.errors import UserError
from mi_common.runtime import Runtime
from mi_estimator.estimators.classifier import MIEstimate

NEIGHBOUR_METHODS = ("ross", "mixed-ksg")
TREE_DIMENSIONS = 15


def check_samples(x: Tensor, y: Tensor, num_classes: int | None = None) -> None:
    """Whether x is (N, d) and finite, and y holds a label of 0..K-1 for each sample.

    Raises:
        UserError: it is not so.
    """
    if x.ndim != 2 or len(x) < 2:
        raise UserError(f"features of shape {tuple(x.shape)}: at least (2 samples, 1 feature)")
    if len(x) != len(y):
        raise UserError(f"{len(x)} samples but {len(y)} labels: each sample needs a label")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        allowed = "0 or above" if num_classes is None else f"in 0..{num_classes - 1}"
        raise UserError(f"label {low if low < 0 else high}: labels must be {allowed}")
    if not torch.isfinite(x).all():
        row = int((~torch.isfinite(x)).any(dim=1).nonzero()[0])
        raise UserError(f"sample {row} (from 0) holds NaN or infinity; remove or fill it")


def ross_pointwise(x: np.ndarray, y: np.ndarray, k: int, *, workers: int = 1) -> np.ndarray:
    """Ross 2014 (PLoS ONE 9(2) e87357, eq. 6), a term a sample, in nats.

        psi(N) + psi(k) - psi(N_y) - psi(m)

    m counts the samples of any class within the distance of the k-th neighbour in the sample's own
    class, itself not counted. A class of k samples or fewer uses all of its others. A class of one
    sample has no neighbour: as in the author's code its k is 1 and its m is twice the number of
    classes, so that no sample is left out.

    Args:
        x: (N, d) without ties; the distribution is taken to be continuous.
        y: (N,) integer labels from 0.
        k: neighbours.
        workers: threads of the k-d tree; -1 takes all cores.

    Returns:
        (N,), whose mean is the estimate.
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
    classes are infinitely far apart and n_y is the size of the class. The psi of the counts, where
    the paper has the logarithm, is that of the authors' code. Without ties this is Ross's value
    plus log N - psi(N), about 1/2N. Small classes, arguments and result are as for Ross.
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
    """Distance to the k-th neighbour in the own class, the k used, and the size of the class."""
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


class NeighbourMI:
    """A nearest-neighbour estimator with the interface of `ClassifierMI`.

    The value is no bound on I(X;Y). Its bias falls slowly with N and grows with the dimension and
    with I itself, and the interval, the standard error of the terms, knows nothing of it.
    """

    def __init__(
        self,
        method: str = "ross",
        *,
        runtime: Runtime | None = None,
        seed: int = 0,
        k: int = 3,
        max_samples: int = 20_000,
        workers: int = 1,
    ):
        """
        Args:
            method: "ross" or "mixed-ksg".
            runtime: not used; the k-d tree is on the CPU.
            seed: of the random part that is kept beyond `max_samples`, and of Ross's noise.
            k: neighbours.
            max_samples: samples that an estimate uses at most; time grows faster than they do.
            workers: threads of the k-d tree; -1 takes all cores.

        Raises:
            UserError: an unknown method, or a number below its least value.
        """
        if method not in NEIGHBOUR_METHODS:
            raise UserError(f"method {method!r}: use one of {', '.join(NEIGHBOUR_METHODS)}")
        if k < 1 or max_samples < 2:
            raise UserError(f"k {k}, max_samples {max_samples}: at least 1 neighbour, 2 samples")
        self.method, self.seed, self.k = method, seed, k
        self.max_samples, self.workers = max_samples, workers

    def fit(self, x: Tensor, y: Tensor, *, num_classes: int | None = None) -> "NeighbourMI":
        """Checks the samples; there is nothing to train and nothing is kept."""
        check_samples(x, y, num_classes)
        return self

    def estimate(self, x: Tensor, y: Tensor) -> MIEstimate:
        """The estimate of (N, d) features and (N,) labels, or of `max_samples` drawn from them.

        `pointwise` holds the terms of the samples used, in the order of x when all are used. Ross
        takes x to be continuous, so noise of 1e-10 standard deviations breaks its ties.

        Raises:
            UserError: shapes, labels or numbers that cannot be used.
        """
        check_samples(x, y)
        generator = np.random.default_rng(self.seed)
        if len(y) > self.max_samples:
            chosen = generator.choice(len(y), self.max_samples, replace=False)
            x, y = x.cpu()[chosen], y.cpu()[chosen]
        features, labels = x.cpu().double().numpy(), y.cpu().numpy()
        spread = features.std(axis=0)
        features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        if self.method == "ross":
            features += 1e-10 * generator.standard_normal(features.shape)
            pointwise = ross_pointwise(features, labels, self.k, workers=self.workers)
        else:
            pointwise = mixed_ksg_pointwise(features, labels, self.k, workers=self.workers)
        return MIEstimate.from_pointwise(torch.from_numpy(pointwise))


@dataclass(frozen=True)
class NeighbourFit:
    """An estimate by neighbours on all samples, with what `CrossFit` has of it.

    Attributes:
        estimator, x, labels: what made it.
        pointwise: (N,) terms of the estimate, in the order of x.
    """

    estimator: NeighbourMI
    x: Tensor
    labels: Tensor
    pointwise: Tensor

    @classmethod
    def of(cls, method: str, x: Tensor, y: Tensor, *, seed: int) -> "NeighbourFit":
        """All samples, however many."""
        estimator = NeighbourMI(method, seed=seed, max_samples=len(y), workers=-1).fit(x, y)
        return cls(estimator, x, y, estimator.estimate(x, y).pointwise)

    def estimate(self) -> MIEstimate:
        return MIEstimate.from_pointwise(self.pointwise)

    def permutation_p_value(self, permutations: int, seed: int) -> float:
        """P-value of independence: the estimate is made anew for each permutation of the labels.

        (1 + how many reach the estimate) / (1 + permutations).
        """
        generator = torch.Generator().manual_seed(seed)
        observed = self.pointwise.mean()
        reached = 0
        for _ in range(permutations):
            shuffled = self.labels[torch.randperm(len(self.labels), generator=generator)]
            value = self.estimator.estimate(self.x, shuffled).value
            reached += int(value >= observed - 1e-12)
        return (1 + reached) / (1 + permutations)
