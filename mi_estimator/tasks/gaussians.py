"""Gaussian classes with exact information: the paper's, in many dimensions, and many classes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_common.information import log_prior_from_counts
from mi_estimator.tasks.joint import Distribution, integrate_information

IMBALANCED = (5_000, 10_000, 15_000, 20_000, 25_000)  # class counts of the paper


@dataclass(frozen=True)
class GaussianClasses(Distribution):
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

    @property
    def log_prior(self) -> Tensor:
        return log_prior_from_counts(torch.tensor(self.class_counts), dtype=torch.float64)

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """(n,) labels -> (n, d) float32."""
        means = torch.tensor(self.offsets, device=labels.device)[labels, None]
        noise = torch.randn(len(labels), self.dim, generator=generator, device=labels.device)
        return means + noise

    def log_density(self, x: Tensor) -> Tensor:
        return self._projected_log_density(x.double().sum(dim=1) / self.dim**0.5)

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) in nats and a bound on its numerical error, from the law of the projection."""
        means = [offset * self.dim**0.5 for offset in self.offsets]
        # Beyond 12 standard deviations of every class lies a mass of 1e-32.
        return integrate_information(
            self._projected_log_density, self.log_prior, min(means) - 12, max(means) + 12
        )

    def _projected_log_density(self, t: Tensor) -> Tensor:
        """(M,) -> (M, K) log p(t | k)."""
        means = torch.tensor(self.offsets, dtype=torch.float64, device=t.device) * self.dim**0.5
        return -0.5 * (t[:, None] - means) ** 2 - 0.5 * math.log(2 * math.pi)


PAPER_LINE = GaussianClasses(1)


@dataclass(frozen=True)
class RotatedGaussians(Distribution):
    """X | Y = k is normal with mean m_k u and identity covariance, u a fixed random unit vector.

    These are the classes of Qin et al. 2019 with means scaled by 1/sqrt(d), d = `dim`, and rotated:
    u.x is sufficient for Y. Its distribution with Y, `line`, does not depend on d, so neither does
    the information.
    """

    dim: int
    line: GaussianClasses = PAPER_LINE

    @property
    def log_prior(self) -> Tensor:
        return self.line.log_prior

    @property
    def direction(self) -> Tensor:
        """(d,) float64 unit vector u."""
        generator = torch.Generator().manual_seed(0)
        u = torch.randn(self.dim, dtype=torch.float64, generator=generator)
        return u / u.norm()

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        offsets = torch.tensor(self.line.offsets, dtype=torch.float32, device=labels.device)[labels]
        x = torch.randn(len(labels), self.dim, generator=generator, device=labels.device)
        return x.addr_(offsets, self.direction.to(x))

    def log_density(self, x: Tensor) -> Tensor:
        u = self.direction.to(x.device)
        return self.line.log_density((x.double() @ u)[:, None])

    def mutual_information(self) -> tuple[float, float]:
        return self.line.mutual_information()


@dataclass(frozen=True)
class OrthogonalClasses(Distribution):
    """X | Y = k is normal with mean mu e_k and identity covariance; K = d equally likely classes.

    I(X;Y) = log K + mu^2 - E log W with W = sum_j exp(mu x_j), a sum of independent terms. By
    Frullani's integral log W = int_0^inf (e^-u - e^-uW) du/u, whose expectation needs only the
    Laplace transform of a log-normal: two nested one-dimensional integrals for any K. mu is the
    `separation`, above 0 and at most 10; two means are mu sqrt(2) apart.
    """

    classes: int
    separation: float

    @property
    def dim(self) -> int:
        return self.classes

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        x = torch.randn(len(labels), self.classes, generator=generator, device=labels.device)
        x[torch.arange(len(labels), device=labels.device), labels] += self.separation
        return x

    def log_density(self, x: Tensor) -> Tensor:
        return self.separation * x.double()

    def mutual_information(self) -> tuple[float, float]:
        fine, coarse = self._integral(0.05), self._integral(0.1)
        return fine, abs(fine - coarse) + 1e-12

    def _integral(self, step: float) -> float:
        mu = self.separation
        centre = math.log(self.classes) + mu**2 / 2  # W / e^centre is about one
        # Outside, the integrand is below 1e-17: it goes like e^s at the left, and at the right
        # e^-uW is alive only where a normal variable is below -9.
        s = torch.arange(-42 - mu**2, centre + 9 * mu + 4, step, dtype=torch.float64)
        of_others = _log_transform(s - centre, mu, step)
        of_class = _log_transform(s - centre + mu**2, mu, step)
        transform = of_class + (self.classes - 1) * of_others  # log E exp(-e^s W / e^centre)
        difference = torch.expm1(-s.exp()) - torch.expm1(transform)
        expected_log_sum = centre + step * difference.sum().item()
        return math.log(self.classes) + mu**2 - expected_log_sum


def _log_transform(t: Tensor, scale: float, step: float) -> Tensor:
    """log E exp(-exp(t + scale z)) over a standard normal z: (M,) -> (M,) float64."""
    step /= max(1.0, scale)
    z = torch.arange(-10, 10 + step, step, dtype=torch.float64)
    weights = torch.softmax(-0.5 * z**2, dim=0)
    rate = (t[:, None] + scale * z).exp()
    missing = -torch.expm1(-rate) @ weights  # exact where the transform is close to one
    return torch.where(missing < 0.5, torch.log1p(-missing), ((-rate).exp() @ weights).log())
