"""Vectors and a label that are hard for estimators, with known mutual information.

No linear signal, heavy tails, a bounded support, and no information at all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_estimator.tasks.joint import Distribution, integrate_information, uniform_log_prior


@dataclass(frozen=True)
class ConcentricClasses(Distribution):
    """X | Y = k is normal with mean zero and standard deviation s_k: shells, with no linear signal.

    The radius |x| is sufficient, and |x| / s_k has the chi distribution with d = `dim` degrees of
    freedom; the information is an integral over log |x|. The s_k are `scales`; the classes are
    equally likely.
    """

    dim: int
    scales: tuple[float, ...] = (1.0, 2.0, 4.0)

    @property
    def log_prior(self) -> Tensor:
        return uniform_log_prior(len(self.scales))

    @property
    def _log_scales(self) -> Tensor:
        return torch.tensor(self.scales, dtype=torch.float64).log()

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        x = torch.randn(len(labels), self.dim, generator=generator, device=labels.device)
        return x * torch.tensor(self.scales, device=labels.device)[labels, None]

    def log_density(self, x: Tensor) -> Tensor:
        return self._radial_log_density(x.double().norm(dim=1).log())

    def mutual_information(self) -> tuple[float, float]:
        # With v = log |x| - log s_k - log(d) / 2 the density is at most of the order of
        # exp(-d v^2) for v > 0 and exp(d (v + 1/2)) for v < 0.
        middle = self._log_scales + 0.5 * math.log(self.dim)
        low = middle.min().item() - 45 / self.dim - 0.5
        high = middle.max().item() + (45 / self.dim) ** 0.5
        return integrate_information(self._radial_log_density, self.log_prior, low, high)

    def _radial_log_density(self, log_radius: Tensor) -> Tensor:
        """(M,) -> (M, K) log density of the log radius."""
        v = log_radius[:, None] - self._log_scales.to(log_radius.device)
        half = self.dim / 2
        constant = (1 - half) * math.log(2) - math.lgamma(half)
        return constant + self.dim * v - 0.5 * (2 * v).exp()


@dataclass(frozen=True)
class NoisyXor(Distribution):
    """X is uniform on [-1, 1]^d; Y is the parity of its positive coordinates, flipped at random.

    I(X;Y) = log 2 - H_b(flip), where `flip` is the probability that the label is wrong. No d - 1 of
    the d = `dim` coordinates carry anything.
    """

    flip: float
    dim: int = 2

    @property
    def log_prior(self) -> Tensor:
        return uniform_log_prior(2)

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        drawing = {"generator": generator, "device": labels.device}
        parity = labels ^ (torch.rand(len(labels), **drawing) < self.flip)
        positive = torch.randint(2, (len(labels), self.dim), **drawing)
        positive[:, 0] ^= (positive.sum(dim=1) + parity) % 2
        magnitude = 1 - torch.rand(len(labels), self.dim, **drawing)  # never zero
        return (2 * positive - 1) * magnitude

    def log_ratio(self, x: Tensor) -> Tensor:
        right, wrong = 1 - self.flip, self.flip
        table = torch.tensor([[right, wrong], [wrong, right]], dtype=torch.float64).mul(2).log()
        return table.to(x.device)[(x > 0).sum(dim=1) % 2]

    def mutual_information(self) -> tuple[float, float]:
        flips = torch.tensor([self.flip, 1 - self.flip], dtype=torch.float64)
        return math.log(2) - torch.special.entr(flips).sum().item(), 0.0


@dataclass(frozen=True)
class UniformMixture(Distribution):
    """The label is uniform on 0..m-1, m = `classes`, and the feature uniform on [Y, Y + 2).

    A mixed pair of Gao et al. 2017 (arXiv 1709.06212), whose X is the label here.
    I(X;Y) = log m - (m - 1)/m log 2: only the two outer unit intervals tell the label.
    """

    classes: int
    dim = 1

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        x = labels + 2 * torch.rand(len(labels), generator=generator, device=labels.device)
        end = (labels + 2).to(x)  # rounding may reach it, where the label is impossible
        return torch.minimum(x, torch.nextafter(end, torch.zeros_like(end)))[:, None]

    def log_ratio(self, x: Tensor) -> Tensor:
        shift = x.double() - torch.arange(self.classes, device=x.device)
        possible = ((shift >= 0) & (shift < 2)).double()
        return possible.log() + math.log(self.classes) - possible.sum(dim=1, keepdim=True).log()

    def mutual_information(self) -> tuple[float, float]:
        m = self.classes
        return math.log(m) - (m - 1) / m * math.log(2), 0.0


@dataclass(frozen=True)
class StudentClasses(Distribution):
    """The first feature is m_Y plus Student-t noise; the others are independent t noise.

    The first feature is sufficient; the integral over it is taken in asinh(x), where the heavy
    tails end exponentially.

    Attributes:
        dof: degrees of freedom of all noise, at least 1; no variance at 2 or below.
        dim: number of features d.
        offsets: the m_k, at most 100 in size, as far as the integral reaches; the classes are
            equally likely.
    """

    dof: float
    dim: int = 1
    offsets: tuple[float, ...] = (0.0, 2.0, -2.0, 4.0, -4.0)

    @property
    def log_prior(self) -> Tensor:
        return uniform_log_prior(len(self.offsets))

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        # Bailey 1994: the polar method of Box and Muller, for t variates of any dof.
        drawing = {"generator": generator, "device": labels.device, "dtype": torch.float64}
        u, v = torch.rand(2, len(labels), self.dim, **drawing)
        radius = (self.dof * torch.expm1(-2 / self.dof * torch.log1p(-u))).sqrt()
        x = radius * torch.cos(2 * math.pi * v)
        x[:, 0] += torch.tensor(self.offsets, device=labels.device, dtype=torch.float64)[labels]
        return x.float()

    def log_density(self, x: Tensor) -> Tensor:
        return self._first_log_density(x[:, 0].double())

    def mutual_information(self) -> tuple[float, float]:
        # P(|noise| > sqrt(dof) w) is at most of the order of w^-dof, here e^-45.
        reach = max(map(abs, self.offsets)) + self.dof**0.5 * math.exp(45 / self.dof)
        end = math.asinh(reach)

        def log_density(s: Tensor) -> Tensor:
            return self._first_log_density(s.sinh()) + s.cosh().log()[:, None]

        return integrate_information(log_density, self.log_prior, -end, end)

    def _first_log_density(self, t: Tensor) -> Tensor:
        """(M,) -> (M, K) log density of the first feature."""
        noise = t[:, None] - torch.tensor(self.offsets, dtype=t.dtype, device=t.device)
        half = (self.dof + 1) / 2
        constant = math.lgamma(half) - math.lgamma(self.dof / 2)
        constant -= 0.5 * math.log(self.dof * math.pi)
        return constant - half * torch.log1p(noise**2 / self.dof)


@dataclass(frozen=True)
class Independent(Distribution):
    """X is standard normal in `dim` features whatever the label of `classes`: I(X;Y) = 0."""

    classes: int
    dim: int = 1

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(len(labels), self.dim, generator=generator, device=labels.device)

    def log_ratio(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), self.classes, dtype=torch.float64, device=x.device)

    def mutual_information(self) -> tuple[float, float]:
        return 0.0, 0.0
