"""What all estimators share: the interface, the check of the samples, and the estimate."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_common.errors import UserError
from mi_common.runtime import Runtime
from mi_estimator.estimators.registry import NETWORKS

QUANTILE = 1.959964  # of the standard normal, two-sided 95 %


@dataclass(frozen=True)
class MIEstimate:
    """An estimate of I(X;Y) in nats.

    Attributes:
        value: mean of `pointwise`; for classifiers a lower bound on I(X;Y) in expectation.
        lower, upper: normal 95 % interval of the score that the trained estimator would get on
            infinitely many samples. It covers this bound, not I itself. For a cross-fit it covers
            the average score of the folds' estimators (Bayle et al. 2020, arXiv 2007.12671).
        pointwise: (N,) float64 term of each sample, such as its pointwise mutual information.
    """

    value: float
    lower: float
    upper: float
    pointwise: Tensor

    @classmethod
    def from_pointwise(cls, pointwise: Tensor) -> "MIEstimate":
        """The plain mean over samples."""
        pointwise = pointwise.double().cpu()
        standard_error = pointwise.std().item() / len(pointwise) ** 0.5
        return cls.normal(pointwise.mean().item(), standard_error, pointwise)

    @classmethod
    def under_prior(cls, pointwise: Tensor, labels: Tensor, log_prior: Tensor) -> "MIEstimate":
        """The mean of each class, weighted by a known (K,) prior; class counts are not random."""
        pointwise, counts = pointwise.double().cpu(), torch.bincount(labels)
        weights = (log_prior.exp() / counts)[labels]
        means = torch.zeros_like(log_prior).index_add_(0, labels, pointwise) / counts
        squares = weights.square() * (pointwise - means[labels]).square()
        variance = (squares * (counts / (counts - 1))[labels]).sum().item()
        return cls.normal((weights * pointwise).sum().item(), variance**0.5, pointwise)

    @classmethod
    def normal(cls, mean: float, standard_error: float, pointwise: Tensor) -> "MIEstimate":
        """With the normal 95 % interval."""
        half_width = QUANTILE * standard_error
        return cls(mean, mean - half_width, mean + half_width, pointwise)

    @property
    def standard_error(self) -> float:
        return (self.upper - self.lower) / (2 * QUANTILE)


class Estimator(ABC):
    """An estimator of I(X;Y): `fit` on samples, `estimate` on others.

    `fit` and `estimate` check their samples and call `train` and `terms`, which a subclass
    implements. Code that has checked its samples, such as `cross_fit`, calls these two directly.

    Attributes:
        takes_images: whether (N, C, H, W) images are allowed besides (N, d) features.
        is_cross_entropy: whether the estimate is H(Y) minus a cross-entropy, so that `terms` are
            the labels' log ratios.
        num_classes: set by `fit`.
    """

    takes_images = False
    is_cross_entropy = False
    num_classes: int | None = None

    def fit(self, x, y, *, num_classes: int | None = None) -> "Estimator":
        """Trains on (N, d) features and (N,) labels 0..K-1, tensors or arrays.

        By default, `num_classes` K is the largest label plus one. UserError as `as_samples`, for a
        class without samples where the estimator needs all, and for a training that fails.
        """
        x, y = as_samples(x, y, num_classes, images=self.takes_images)
        return self.train(x, y, num_classes or int(y.max()) + 1)

    def estimate(self, x, y) -> MIEstimate:
        """The estimate on samples that `fit` has not seen; UserError as `as_samples`."""
        x, y = as_samples(x, y, self.num_classes, images=self.takes_images)
        return MIEstimate.from_pointwise(self.terms(x, y))

    @abstractmethod
    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "Estimator":
        """`fit` on checked samples."""

    @abstractmethod
    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) terms whose mean is the estimate, in nats."""

    def log_ratio(self, x: Tensor) -> Tensor:
        """N samples -> (N, K) log p(x, k) / (p(x) p(k)) in nats; neighbours have none."""
        raise NotImplementedError(f"{type(self).__name__} has no log ratio")


def as_samples(x, y, num_classes: int | None, *, images: bool = False) -> tuple[Tensor, Tensor]:
    """Samples and int64 labels as tensors, checked.

    UserError for another shape, fewer than two samples, lengths that differ, values that are not
    finite, labels that are not whole numbers 0..K-1.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if x.ndim not in ((2, 4) if images else (2,)) or len(x) < 2:
        raise UserError(
            f"features of shape {tuple(x.shape)}: they must be (samples, features), with at least "
            "2 samples"
        )
    if len(x) != len(y):
        raise UserError(f"{len(x)} samples but {len(y)} labels: each sample needs a label")
    if y.is_floating_point():
        raise UserError(f"labels of type {y.dtype}: they must be whole numbers 0..K-1")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        allowed = "0 or above" if num_classes is None else f"in 0..{num_classes - 1}"
        raise UserError(f"label {low if low < 0 else high}: labels must be {allowed}")
    if x.is_floating_point() and not (finite := torch.isfinite(x.flatten(1)).all(dim=1)).all():
        row = int((~finite).nonzero()[0])
        raise UserError(f"sample {row} (from 0) holds NaN or infinity; remove or fill it")
    return x, y.long()


def runtime_used(names: Sequence[str], runtime: Runtime) -> Runtime:
    """The runtime, or a CPU in fp32 where no estimator of these names is a network."""
    if any(name in NETWORKS for name in names):
        return runtime
    cpu = torch.device("cpu")
    return dataclasses.replace(runtime, device=cpu, precision="fp32", compile=False)


def describe_devices(names: Sequence[str], runtime: Runtime) -> str:
    """The device of the networks and the estimators on the CPU, for the first line of a script."""
    runtime = runtime_used(names, runtime)
    on_cpu = [name for name in names if name not in NETWORKS]
    if runtime.device.type == "cpu" or not on_cpu:
        return runtime.describe()
    return f"{runtime.describe()}; {', '.join(on_cpu)} on the CPU"
