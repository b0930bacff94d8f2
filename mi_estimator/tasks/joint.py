"""The base of joint distributions of features X and a label Y; exact integrals. In nats."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mi_common.information import entropy, pointwise_mutual_information


class Distribution:
    """A joint distribution of features X and a label Y in 0..K-1, which draws labels first.

    A subclass has `classes`, or a `log_prior`; `features`; `mutual_information`; and `log_density`
    or `log_ratio`.

    Attributes:
        truth_is_upper_bound: whether `mutual_information` is an upper bound on I(X;Y) only.
    """

    truth_is_upper_bound = False

    @property
    def log_prior(self) -> Tensor:
        """(K,) float64 log class probabilities, equal ones unless a subclass has others."""
        return uniform_log_prior(self.classes)

    @property
    def num_classes(self) -> int:
        return len(self.log_prior)

    @property
    def label_entropy(self) -> float:
        """H(Y) in nats, the cap of I(X;Y)."""
        return entropy(self.log_prior).item()

    def sample(
        self, n: int, generator: torch.Generator, *, exact_counts: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draws n pairs on the generator's device, in random order.

        With `exact_counts` labels are not drawn: each class has its share of n, rounded down, and
        the first classes take the rest.
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
        return self.features(labels, generator), labels

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """(n,) labels -> n float32 samples of X given them."""
        raise NotImplementedError

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) and a bound on its numerical error, which is 0.0 for a closed form."""
        raise NotImplementedError

    def log_density(self, x: Tensor) -> Tensor:
        """N samples -> (N, K) float64 log p(x | k), up to a constant of x."""
        raise NotImplementedError

    def log_ratio(self, x: Tensor) -> Tensor:
        """The oracle, if known: N samples -> (N, K) float64 log p(x, k) / (p(x) p(k))."""
        return pointwise_mutual_information(self.log_density(x), self.log_prior)


def uniform_log_prior(num_classes: int) -> Tensor:
    """(K,) float64."""
    return torch.full((num_classes,), -math.log(num_classes), dtype=torch.float64)


def integrate_information(
    log_density: Callable[[Tensor], Tensor], log_prior: Tensor, low: float, high: float
) -> tuple[float, float]:
    """I(S;Y) of a one-dimensional S by the trapezoidal rule, and a bound on its numerical error.

    For a smooth integrand that vanishes at both ends the rule converges faster than any power of
    the step, so the bound is the change when the step is halved, plus the rounding of the sum.
    `log_density` takes (M,) float64 points to (M, K) log p(s | k), finite.
    """
    s = torch.linspace(low, high, (1 << 15) + 1, dtype=torch.float64)
    values = log_density(s)
    ratio = pointwise_mutual_information(values, log_prior)
    integrand = ((log_prior + values).exp() * ratio).sum(dim=1)
    fine = torch.trapezoid(integrand, s).item()
    coarse = torch.trapezoid(integrand[::2], s[::2]).item()
    return fine, abs(fine - coarse) + 1e-13
