"""Joint distributions of features X and a label Y whose mutual information is known exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.information import entropy, log_prior_from_counts, pointwise_mutual_information


@dataclass(frozen=True)
class GaussianClasses:
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
    def num_classes(self) -> int:
        return len(self.offsets)

    @property
    def log_prior(self) -> Tensor:
        """(K,) float64 exact log class probabilities."""
        return log_prior_from_counts(torch.tensor(self.class_counts), dtype=torch.float64)

    @property
    def label_entropy(self) -> float:
        """H(Y) in nats, the cap of I(X;Y)."""
        return entropy(self.log_prior).item()

    def sample(
        self, n: int, generator: torch.Generator, *, exact_counts: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draws n pairs on the generator's device.

        Args:
            exact_counts: give each class its exact share of n (rounded down; the first classes
                take the rest), as the paper's sets have it, instead of drawing labels.

        Returns:
            (n, d) float32 features and (n,) int64 labels, in random order.
        """
        device = generator.device
        prior = self.log_prior.exp().to(device)
        if exact_counts:
            counts = (prior * n + 1e-6).long()
            counts[: n - int(counts.sum())] += 1
            labels = torch.repeat_interleave(torch.arange(len(prior), device=device), counts)
            labels = labels[torch.randperm(n, generator=generator, device=device)]
        else:
            labels = torch.multinomial(prior, n, replacement=True, generator=generator)
        means = torch.tensor(self.offsets, device=device)[labels, None]
        noise = torch.randn(n, self.dim, generator=generator, device=device)
        return means + noise, labels

    def pointwise_mutual_information(self, x: Tensor) -> Tensor:
        """The oracle's log density ratio: (N, d) -> (N, K) float64, in nats."""
        return self._ratio(x.double().sum(dim=1) / self.dim**0.5)

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) in nats and a bound on its numerical error.

        The trapezoidal rule over the projection; for a smooth integrand with Gaussian tails its
        error falls faster than any power of the step. The bound is the change when the step is
        halved plus the rounding of the sum.
        """
        fine, coarse = self._integral(1 << 15), self._integral(1 << 14)
        return fine, abs(fine - coarse) + 1e-13

    def _integral(self, intervals: int) -> float:
        means = self._projected_means()
        # Beyond 12 standard deviations of every class lies a mass of 1e-32.
        low, high = means.min().item() - 12, means.max().item() + 12
        t = torch.linspace(low, high, intervals + 1, dtype=torch.float64)
        log_density = -0.5 * (t[:, None] - means) ** 2 - 0.5 * np.log(2 * np.pi)
        weighted = (self.log_prior + log_density).exp() * self._ratio(t)
        return torch.trapezoid(weighted.sum(dim=1), t).item()

    def _projected_means(self) -> Tensor:
        return torch.tensor(self.offsets, dtype=torch.float64) * self.dim**0.5

    def _ratio(self, t: Tensor) -> Tensor:
        logits = -0.5 * (t[:, None] - self._projected_means().to(t.device)) ** 2
        return pointwise_mutual_information(logits, self.log_prior)


IMBALANCED = (5_000, 10_000, 15_000, 20_000, 25_000)

# A suite is a name for a list of tasks: task name -> distribution.
SUITES = {
    "paper": {
        f"gaussian-d{dim}-{name}": GaussianClasses(dim, counts)
        for name, counts in (("balanced", (10_000,) * 5), ("imbalanced", IMBALANCED))
        for dim in (1, 2, 5, 10)
    }
}
