"""The paper's joint distribution of features X and a label Y, with its exact mutual information."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import log_prior_from_counts, pointwise_mutual_information
from mi_estimator.tasks.joint import LabelFirst, integrate_information


@dataclass(frozen=True)
class GaussianClasses(LabelFirst):
    """X | Y = k is normal with mean m_k in every coordinate and identity covariance.

    The synthetic task of Qin et al. 2019: five classes with m = 0, 2, -2, 4, -4. All means lie on
    the diagonal, so the projection t = sum(x) / sqrt(d) is sufficient for Y and every exact
    quantity is one-dimensional.

    Attributes:
        dim: number of features d.
        class_counts: training samples of each class in the paper; they fix the class prior.
        offsets: the m_k.
    """

    dim: int
    class_counts: tuple[int, ...] = (10_000,) * 5
    offsets: tuple[float, ...] = (0.0, 2.0, -2.0, 4.0, -4.0)

    def __post_init__(self):
        if self.dim < 1 or len(self.class_counts) != len(self.offsets):
            raise UserError("GaussianClasses needs dim >= 1 and a class count for each offset")

    @property
    def log_prior(self) -> Tensor:
        """(K,) float64 exact log class probabilities."""
        return log_prior_from_counts(torch.tensor(self.class_counts), dtype=torch.float64)

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """(n,) labels -> (n, d) float32."""
        means = torch.tensor(self.offsets, device=labels.device)[labels, None]
        noise = torch.randn(len(labels), self.dim, generator=generator, device=labels.device)
        return means + noise

    def pointwise_mutual_information(self, x: Tensor) -> Tensor:
        """The oracle's log density ratio: (N, d) -> (N, K) float64, in nats."""
        projection = x.double().sum(dim=1) / self.dim**0.5
        return pointwise_mutual_information(self._log_density(projection), self.log_prior)

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) in nats and a bound on its numerical error, from the law of the projection."""
        means = [offset * self.dim**0.5 for offset in self.offsets]
        # Beyond 12 standard deviations of every class lies a mass of 1e-32.
        return integrate_information(
            self._log_density, self.log_prior, min(means) - 12, max(means) + 12
        )

    def _log_density(self, t: Tensor) -> Tensor:
        means = torch.tensor(self.offsets, dtype=torch.float64, device=t.device) * self.dim**0.5
        return -0.5 * (t[:, None] - means) ** 2 - 0.5 * math.log(2 * math.pi)


IMBALANCED = (5_000, 10_000, 15_000, 20_000, 25_000)
