"""Columns of a table whose law depends on the class and on a component of the class.

Parameters have shape (K, M), for K classes of M components; either may be 1, for one value in all.
A column has three functions:

    quantile(of, u)       (n,) uniform -> (n, width) samples; `of` picks each sample's parameter
    log_density(x)        (N, width) -> (N, K, M), in the coordinate of `nodes`
    nodes(step)           (L, width) points and their (L,) weights in an integral

Continuous columns have nodes `step` scales apart, for the trapezoidal rule; the nodes of discrete
columns are their support. All values are float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

REACH = 9.0  # scales; a normal variable is beyond with probability 2e-19


def parameter(values) -> Tensor:
    """A number, (K,) or (K, M) numbers -> (1, 1), (K, 1) or (K, M) float64."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return values.reshape(-1, 1) if values.ndim < 2 else values


class Normal:
    """Normal with the `means` and `scales` of class and component."""

    width = 1

    def __init__(self, means, scales=1.0) -> None:
        self.means, self.scales = parameter(means), parameter(scales)

    def quantile(self, of: Callable, u: Tensor) -> Tensor:
        return (of(self.means) + of(self.scales) * torch.special.ndtri(u))[:, None]

    def log_density(self, x: Tensor) -> Tensor:
        scales = self.scales.to(x.device)
        z = (x[:, :, None] - self.means.to(x.device)) / scales
        return -0.5 * z**2 - scales.log() - 0.5 * math.log(2 * math.pi)

    def nodes(self, step: float) -> tuple[Tensor, Tensor]:
        low = (self.means - REACH * self.scales).min().item()
        high = (self.means + REACH * self.scales).max().item()
        return _equidistant(low, high, step * self.scales.min().item())


class LogNormal(Normal):
    """exp of `Normal`; the coordinate of its density is the logarithm."""

    def quantile(self, of: Callable, u: Tensor) -> Tensor:
        return super().quantile(of, u).exp()

    def log_density(self, x: Tensor) -> Tensor:
        return super().log_density(x.log())

    def nodes(self, step: float) -> tuple[Tensor, Tensor]:
        x, weights = super().nodes(step)
        return x.exp(), weights


class Cauchy:
    """Cauchy around zero with the `scales` of class and component: no mean and no variance.

    Only the size tells the class; the coordinate of the density is log |x|.
    """

    width = 1

    def __init__(self, scales) -> None:
        self.scales = parameter(scales)

    def quantile(self, of: Callable, u: Tensor) -> Tensor:
        return (of(self.scales) * torch.tan(math.pi * (u - 0.5)))[:, None]

    def log_density(self, x: Tensor) -> Tensor:
        v = x.abs().clamp_min(1e-30).log()[:, :, None] - self.scales.log().to(x.device)
        return math.log(2 / math.pi) - torch.logaddexp(v, -v)

    def nodes(self, step: float) -> tuple[Tensor, Tensor]:
        # The density falls like e^-|v|.
        low, high = self.scales.min().log().item(), self.scales.max().log().item()
        log_x, weights = _equidistant(low - 42, high + 42, step)
        return log_x.exp(), weights


class Discrete:
    """One of (L, width) `values`: L increasing numbers, or the rows of the unit matrix.

    Their probabilities are in proportion to exp of the (K, M, L) `log_weights`.
    """

    def __init__(self, values: Tensor, log_weights: Tensor) -> None:
        self.values, self.width = values.double(), values.shape[1]
        self.log_mass = log_weights.double().log_softmax(dim=-1)

    def quantile(self, of: Callable, u: Tensor) -> Tensor:
        below = of(self.log_mass.exp().cumsum(dim=-1)[..., :-1]) < u[:, None]
        return self.values.to(u.device)[below.sum(dim=1)]

    def log_density(self, x: Tensor) -> Tensor:
        if self.width > 1:
            index = x.argmax(dim=1)
        else:
            middles = (self.values[1:, 0] + self.values[:-1, 0]) / 2
            index = torch.bucketize(x[:, 0].contiguous(), middles.to(x.device))
        return self.log_mass.to(x.device).movedim(-1, 0)[index]

    def nodes(self, step: float) -> tuple[Tensor, Tensor]:
        return self.values, torch.ones(len(self.values), dtype=torch.float64)


def category(weights) -> Discrete:
    """One of L levels, one-hot coded; its probabilities are like `weights`, (K, L) or (K, M, L)."""
    weights = torch.as_tensor(weights, dtype=torch.float64)
    weights = weights[:, None] if weights.ndim == 2 else weights
    return Discrete(torch.eye(weights.shape[-1]), weights.log())


def counts(rates, zeros=0.0) -> Discrete:
    """Poisson with `rates`, but with the probabilities `zeros` zero in any case."""
    rates, zeros = parameter(rates)[..., None], parameter(zeros)[..., None]
    largest = rates.max().item()
    n = torch.arange(largest + 9 * largest**0.5 + 25, dtype=torch.float64)  # beyond is 1e-17
    poisson = torch.log1p(-zeros) + n * rates.log() - rates - torch.lgamma(n + 1)
    inflated = torch.logaddexp(poisson, zeros.log())
    return Discrete(n[:, None], torch.where(n == 0, inflated, poisson))


def rounded_normal(means, scales, unit: float) -> Discrete:
    """`Normal` rounded to a multiple of `unit`: a measurement with few digits, full of ties."""
    low, high = Normal(means, scales).nodes(1.0)[0][[0, -1], 0].div(unit).round().tolist()
    values = torch.arange(low, high + 1, dtype=torch.float64) * unit
    shift, scales = values - parameter(means)[..., None], parameter(scales)[..., None]
    log_mass = log_normal_mass((shift - unit / 2) / scales, (shift + unit / 2) / scales)
    return Discrete(values[:, None], log_mass)


def log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """log P(low < z < high) of a standard normal z, exact in both tails."""
    # An interval on the right is mirrored: on the left, small masses have no rounding error.
    right = low + high > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    below_high = torch.special.log_ndtr(high)
    return below_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - below_high))


def _equidistant(low: float, high: float, step: float) -> tuple[Tensor, Tensor]:
    """(L, 1) points from low to high and their weights, all `step`."""
    x = torch.arange(low, high + step, step, dtype=torch.float64)[:, None]
    return x, torch.full((len(x),), step, dtype=torch.float64)
