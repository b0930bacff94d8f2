"""Labels that are drawn after the features, from a known posterior: regressions and a tree."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_common.information import select_label
from mi_estimator.tasks.columns import log_normal_mass
from mi_estimator.tasks.joint import Distribution


class Response(Distribution):
    """The label is drawn from p(y | s) of s, few functions of independent features.

    A subclass is a frozen dataclass with `dim`, and has `log_posterior`. The others suit standard
    normal features of which the first are s; `STEPS` are those of the integral over s.
    """

    STEPS = (0.1,)

    @property
    def log_prior(self) -> Tensor:
        return _prior_and_information(self)[0]

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws each sample until its label is accepted, which is exact: p(x) p(y | x) / p(y)."""
        x = self.draw(len(labels), generator)
        rows = torch.arange(len(labels), device=labels.device)
        while len(rows):
            x[rows] = self.draw(len(rows), generator)
            log_posterior = self.log_posterior(self.scores(x[rows].double()))
            uniform = torch.rand(
                len(rows), generator=generator, device=rows.device, dtype=torch.float64
            )
            rows = rows[uniform.log() >= select_label(log_posterior, labels[rows])]
        return x

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.log_posterior(self.scores(x.double())) - self.log_prior.to(x.device)

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) in nats and a bound on its numerical error, as of `integrate_information`."""
        return _prior_and_information(self)[1:]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, dim) float32 samples of the features."""
        return torch.randn(n, self.dim, generator=generator, device=generator.device)

    def scores(self, x: Tensor) -> Tensor:
        """(N, dim) -> (N, s), as `log_posterior` takes it."""
        return x

    def log_posterior(self, s: Tensor) -> Tensor:
        """(N, s) float64 -> (N, K) log class probabilities."""
        raise NotImplementedError

    def nodes(self, factor: int) -> tuple[Tensor, Tensor]:
        """(M, s) points of a grid, `factor` steps apart, and their (M,) probabilities."""
        steps = [factor * step for step in self.STEPS]
        axes = [torch.arange(-8, 8 + step, step, dtype=torch.float64) for step in steps]
        s = torch.cartesian_prod(*axes).reshape(-1, len(axes))
        return s, torch.softmax(-0.5 * s.square().sum(dim=1), dim=0)


@functools.cache
def _prior_and_information(response: Response) -> tuple[Tensor, float, float]:
    def integral(factor: int) -> tuple[Tensor, float]:
        s, weights = response.nodes(factor)
        posterior = response.log_posterior(s).exp()
        prior = weights @ posterior
        entropies = torch.special.entr(posterior).sum(dim=1)
        return prior.log(), (torch.special.entr(prior).sum() - weights @ entropies).item()

    (log_prior, fine), (_, coarse) = integral(1), integral(2)
    return log_prior, fine, abs(fine - coarse) + 1e-13


def log_logistic(logits: Tensor) -> Tensor:
    """(N,) log odds of class 1 -> (N, 2) log probabilities."""
    return torch.nn.functional.logsigmoid(torch.stack([-logits, logits], dim=1))


@dataclass(frozen=True)
class LogisticRegression(Response):
    """P(Y = 1 | x) is logistic in a linear score of correlated normal features.

    Neighbouring features have correlation `correlation`, as an autoregression; the coefficients
    fall like 1/j and alternate in sign. The score has standard deviation `slope` and mean
    `intercept`; it is sufficient.
    """

    dim: int
    slope: float
    intercept: float
    correlation: float

    @property
    def _cholesky(self) -> Tensor:
        """(d, d) lower triangular L of the covariance."""
        j = torch.arange(self.dim, dtype=torch.float64)
        return torch.linalg.cholesky(self.correlation ** (j[:, None] - j).abs())

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return super().draw(n, generator) @ self._cholesky.T.to(generator.device).float()

    def scores(self, x: Tensor) -> Tensor:
        j = torch.arange(self.dim, dtype=torch.float64)
        coefficients = (-1) ** j / (j + 1)
        scale = (coefficients @ self._cholesky).norm()
        return (x @ (coefficients / scale).to(x))[:, None]

    def log_posterior(self, s: Tensor) -> Tensor:
        return log_logistic(self.slope * s[:, 0] + self.intercept)


@dataclass(frozen=True)
class LogisticProduct(Response):
    """P(Y = 1 | x) is logistic in `slope` x_1 x_2; neither feature alone carries anything."""

    dim: int
    slope: float

    STEPS = (0.05, 0.05)

    def log_posterior(self, s: Tensor) -> Tensor:
        return log_logistic(self.slope * s[:, 0] * s[:, 1])


@dataclass(frozen=True)
class OrdinalRegression(Response):
    """The label is the bin of sin(2 x_1) + x_2^2 / 2 + x_3 / 2 plus normal noise.

    Attributes:
        dim: number of features, at least 3.
        noise: standard deviation of the noise.
        bounds: the inner bounds of the bins; with noise 0.5 about the quintiles.
    """

    dim: int
    noise: float
    bounds: tuple[float, ...] = (-0.54, 0.135, 0.747, 1.46)

    STEPS = (0.125, 0.125, 0.4)

    def log_posterior(self, s: Tensor) -> Tensor:
        value = torch.sin(2 * s[:, 0]) + s[:, 1].square() / 2 + s[:, 2] / 2
        bounds = (-math.inf, *self.bounds, math.inf)
        bounds = torch.tensor(bounds, dtype=s.dtype, device=s.device)
        z = (bounds - value[:, None]) / self.noise
        return log_normal_mass(z[:, :-1], z[:, 1:])


@dataclass(frozen=True)
class NoisyTree(Response):
    """A decision tree on four of `dim` features tells the class, with noise in each leaf.

    Features are uniform on [0, 1). The bounds are dyadic: the leaves have the same probability in
    float32.
    """

    dim: int

    LEAVES = (  # lower and upper bounds of the four features, class probabilities
        ((0, 0, 0, 0), (0.25, 0.5, 1, 1), (0.90, 0.05, 0.05)),
        ((0, 0.5, 0, 0), (0.25, 1, 1, 1), (0.10, 0.80, 0.10)),
        ((0.25, 0, 0, 0), (1, 1, 0.625, 0.5), (0.05, 0.15, 0.80)),
        ((0.25, 0, 0, 0.5), (1, 1, 0.625, 1), (0.70, 0.20, 0.10)),
        ((0.25, 0, 0.625, 0), (1, 1, 1, 1), (0.10, 0.85, 0.05)),
    )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, self.dim, generator=generator, device=generator.device)

    def log_posterior(self, s: Tensor) -> Tensor:
        low, high, probabilities = (
            torch.tensor(part, dtype=s.dtype, device=s.device)
            for part in zip(*self.LEAVES, strict=True)
        )
        s = s[:, None, :4]
        inside = ((s >= low) & (s < high)).all(dim=2)
        return (inside.to(s) @ probabilities).log()

    def nodes(self, factor: int) -> tuple[Tensor, Tensor]:
        """The middle of each leaf and its volume: nothing varies inside a leaf."""
        low, high, _ = (torch.tensor(part).double() for part in zip(*self.LEAVES, strict=True))
        return (low + high) / 2, (high - low).prod(dim=1)
