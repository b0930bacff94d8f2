"""Distributions whose features go through an injective map, which keeps the information."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_estimator.tasks.joint import Distribution


class Mapped(Distribution):
    """The features of `base` through an injective map, which keeps the mutual information.

    A subclass is a dataclass with a field `base`, a distribution of vectors with an oracle, and
    has `forward` and `inverse`, both in float64.
    """

    @property
    def log_prior(self) -> Tensor:
        return self.base.log_prior

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        return self.forward(self.base.features(labels, generator).double()).float()

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.base.log_ratio(self.inverse(x.double()))

    def mutual_information(self) -> tuple[float, float]:
        return self.base.mutual_information()


@dataclass(frozen=True)
class Bent(Mapped):
    """z + z^3 of a fixed random rotation z of a vector: an invertible map of all space.

    The inverse does not increase the relative rounding error of float32 samples. Czyż et al. 2023
    (arXiv 2306.11078) test estimators in this way, with other maps.
    """

    base: Distribution

    @property
    def dim(self) -> int:
        return self.base.dim

    def forward(self, x: Tensor) -> Tensor:
        z = x @ random_rotation(self.dim).to(x)
        return z + z**3

    def inverse(self, x: Tensor) -> Tensor:
        # The one real root of z^3 + z = x, as sinh(3 a) = 3 sinh(a) + 4 sinh(a)^3.
        z = 2 / 3**0.5 * torch.sinh(torch.asinh(1.5 * 3**0.5 * x) / 3)
        return z @ random_rotation(self.dim).to(x).T


@functools.cache
def random_rotation(dim: int) -> Tensor:
    """(d, d) float64 orthogonal matrix, always the same one."""
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator)).Q
