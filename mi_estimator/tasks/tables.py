"""Tables like people's with known mutual information: mixed columns, clusters, copies."""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_common.information import entropy, pointwise_mutual_information
from mi_estimator.tasks.columns import Normal
from mi_estimator.tasks.joint import Distribution
from mi_estimator.tasks.mapped import Mapped

STEP = 0.1  # of the trapezoidal rule, in scales of a column
GRID_POINTS = 1 << 22  # beyond, the information is a mean over samples


@dataclass(frozen=True, eq=False)
class Table(Distribution):
    """Classes of equally likely components; within a component the columns are independent.

    Attributes:
        columns: see `mi_estimator.tasks.columns`.
        weights: (K,) numbers in proportion to the class probabilities.
        components: number M of components a class.
        noise: standard normal features without information, after the columns.
    """

    columns: tuple
    weights: tuple[float, ...]
    components: int = 1
    noise: int = 0

    @property
    def dim(self) -> int:
        return sum(column.width for column in self.columns) + self.noise

    @property
    def log_prior(self) -> Tensor:
        return torch.tensor(self.weights, dtype=torch.float64).log().log_softmax(dim=0)

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        n, drawing = len(labels), {"generator": generator, "device": labels.device}
        uniform = torch.rand(n, 1 + len(self.columns), dtype=torch.float64, **drawing)
        return torch.cat([self._at(labels, uniform), torch.randn(n, self.noise, **drawing)], dim=1)

    def log_density(self, x: Tensor) -> Tensor:
        widths = [column.width for column in self.columns]
        parts = x[:, : sum(widths)].double().split(widths, dim=1)
        pairs = zip(self.columns, parts, strict=True)
        return _mean_of_components(sum(column.log_density(part) for column, part in pairs))

    def mutual_information(self) -> tuple[float, float]:
        """I(X;Y) in nats, and a bound on its numerical error or three standard errors.

        The trapezoidal rule on the grid of all columns, whose error is at most its change when
        the step is halved. If the grid is larger than `GRID_POINTS`: randomised quasi-Monte Carlo
        of the exact posterior's entropy, with the standard error over 16 scrambles.
        """
        return _information(self)

    def _at(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """(n,) labels and (n, 1 + columns) uniform numbers -> n float32 samples of the columns."""
        uniform = uniform.clamp(1e-16, 1 - 1e-16)
        component = (uniform[:, 0] * self.components).long()

        def of(parameter: Tensor) -> Tensor:
            shape = (self.num_classes, self.components, *parameter.shape[2:])
            return parameter.to(labels.device).expand(shape)[labels, component]

        pairs = zip(self.columns, uniform.T[1:], strict=True)
        return torch.cat([column.quantile(of, u).float() for column, u in pairs], dim=1)


def _mean_of_components(log_density: Tensor) -> Tensor:
    """(N, K, M) -> (N, K)."""
    return log_density.logsumexp(dim=2) - math.log(log_density.shape[2])


@functools.cache
def _information(table: Table) -> tuple[float, float]:
    if math.prod(len(column.nodes(STEP)[0]) for column in table.columns) > GRID_POINTS:
        values = torch.tensor([_quasi_monte_carlo(table, seed) for seed in range(16)])
        return values.mean().item(), 3 * values.std().item() / len(values) ** 0.5
    fine, coarse = _grid_information(table, STEP), _grid_information(table, 2 * STEP)
    return fine, abs(fine - coarse) + 1e-12


def _grid_information(table: Table, step: float) -> float:
    """I(X;Y) by a sum over the product of the columns' nodes."""
    log_density, weight = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1).double()
    *first, last = [(column, *column.nodes(step)) for column in table.columns]
    for column, x, weights in first:
        log_density = (log_density[:, None] + column.log_density(x)).flatten(0, 1)
        weight = torch.outer(weight, weights).flatten()
    column, x, weights = last
    of_last, log_prior, total = column.log_density(x), table.log_prior, 0.0
    rows = max(1, (1 << 20) // of_last.numel())  # limits the memory
    for part, part_weight in zip(log_density.split(rows), weight.split(rows), strict=True):
        of_classes = _mean_of_components((part[:, None] + of_last).flatten(0, 1))
        ratio = pointwise_mutual_information(of_classes, log_prior)
        joint = (of_classes + log_prior).exp()
        total += (torch.outer(part_weight, weights).flatten() @ (joint * ratio).sum(dim=1)).item()
    return total


def _quasi_monte_carlo(table: Table, seed: int, n: int = 1 << 13) -> float:
    """H(Y) minus the mean entropy of the posterior over n scrambled Sobol points of each class."""
    log_prior, conditional = table.log_prior, 0.0
    for k, p in enumerate(log_prior.exp().tolist()):
        sobol = torch.quasirandom.SobolEngine(
            1 + len(table.columns), scramble=True, seed=seed * len(log_prior) + k
        )
        uniform = sobol.draw(n, dtype=torch.float64)
        x = table._at(torch.full((n,), k), uniform)
        x = torch.nn.functional.pad(x, (0, table.noise))
        posterior = (table.log_ratio(x) + log_prior).exp()
        conditional += p * torch.special.entr(posterior).sum(dim=1).mean().item()
    return entropy(log_prior).item() - conditional


@dataclass(frozen=True, eq=False)
class Collinear(Mapped):
    """Adds copies, sums and noisy sums of the features of `base`, which add no information.

    Attributes:
        base: a distribution of d features with an oracle.
        sums: (m, d) weights of the features in each new one.
        noise: (m,) standard deviations of what is added to it; 0 for exact copies and sums.
    """

    base: Distribution
    sums: Tensor
    noise: Tensor

    @property
    def dim(self) -> int:
        return self.base.dim + len(self.sums)

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        x = self.base.features(labels, generator)
        shape = (len(x), len(self.noise))
        noise = torch.randn(shape, generator=generator, device=x.device) * self.noise.to(x)
        return torch.cat([x, x @ self.sums.to(x).T + noise], dim=1)

    def inverse(self, x: Tensor) -> Tensor:
        return x[:, : self.base.dim]


def clusters(centres, scale: float, weights: tuple[float, ...], noise: int) -> Table:
    """Each class is a mixture of round Gaussians around its centres, (K, M, d) in all."""
    centres = torch.as_tensor(centres, dtype=torch.float64)
    columns = tuple(Normal(means, scale) for means in centres.unbind(dim=2))
    return Table(columns, weights, centres.shape[1], noise)
