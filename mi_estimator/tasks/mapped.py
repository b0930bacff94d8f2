"""Distributions whose features go through an injective map, which keeps the information."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from mi_estimator.tasks.joint import Distribution


class Mapped:
    """The features of `base` through an injective map, which keeps the mutual information.

    A subclass is a dataclass with a field `base`, a distribution of vectors with an oracle, and
    has `forward` and `inverse`, both in float64.
    """

    has_oracle = True
    truth_is_upper_bound = False

    @property
    def num_classes(self) -> int:
        return self.base.num_classes

    @property
    def label_entropy(self) -> float:
        return self.base.label_entropy

    def sample(
        self, n: int, generator: torch.Generator, *, exact_counts: bool = False
    ) -> tuple[Tensor, Tensor]:
        x, labels = self.base.sample(n, generator, exact_counts=exact_counts)
        return self.forward(x.double()).float(), labels

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
