"""The distributions of the suite `tables`, by name."""

import math

import torch

from mi_estimator.tasks.columns import (
    Cauchy,
    LogNormal,
    Normal,
    category,
    counts,
    rounded_normal,
)
from mi_estimator.tasks.joint import Distribution
from mi_estimator.tasks.responses import (
    LogisticProduct,
    LogisticRegression,
    NoisyTree,
    OrdinalRegression,
)
from mi_estimator.tasks.tables import Collinear, Table, clusters


def mixed_types() -> Table:
    """Age, income, region (4 levels) and two answers of three classes with two components each."""
    region = [
        [[5, 2, 2, 1], [1, 6, 1, 2]],
        [[2, 2, 5, 1], [3, 3, 3, 1]],
        [[1, 1, 2, 6], [1, 1, 1, 1]],
    ]
    answer = [[[8, 2], [3, 7]], [[5, 5], [2, 8]], [[6, 4], [9, 1]]]
    other_answer = [[[3, 1]], [[1, 1]], [[1, 2]]]
    columns = (
        Normal([[30, 55], [40, 62], [48, 35]], [[8, 7], [9, 6], [10, 7]]),
        LogNormal([[9.8, 10.6], [10.2, 10.0], [10.9, 10.4]], [[0.4, 0.5], [0.3, 0.4], [0.4, 0.3]]),
        category(region),
        category(answer),
        category(other_answer),
    )
    return Table(columns, (5, 3, 2), components=2, noise=2)


def purchases() -> Table:
    """Purchases of three kinds, mostly none; four classes."""
    columns = (
        counts([0.8, 2.0, 4.0, 1.0], [0.6, 0.5, 0.4, 0.1]),
        counts([3.0, 1.0, 3.0, 6.0], [0.7, 0.3, 0.5, 0.6]),
        counts([[1.0, 9.0], [4.0, 4.0], [0.5, 2.0], [6.0, 2.0]], [0.2, 0.5, 0.3, 0.5]),
    )
    return Table(columns, (4, 3, 2, 1), components=2, noise=2)


def sparse() -> Table:
    """Five informative features of 200, three by their mean and two by their scale."""
    shifted = [Normal(means) for means in ((0, 1, -1), (0.8, 0, -0.4), (-0.6, 0.6, 0.6))]
    scaled = [Normal(0.0, scales) for scales in ((1, 2, 1), (1, 1, 0.5))]
    return Table((*shifted, *scaled), (1, 1, 1), noise=195)


def heavy_tails() -> Table:
    """Log-normal amounts and Cauchy returns."""
    columns = (
        LogNormal([0.0, 0.5, 1.5], [1.0, 2.0, 1.0]),
        Cauchy([1.0, 4.0, 0.3]),
    )
    return Table(columns, (2, 1, 1), noise=2)


def fraud() -> Table:
    """One sample in 500 is of the rare class, which is of two kinds."""
    centres = [[[0, 0], [0, 0]], [[2.5, 2.0], [-2.0, 2.5]]]
    return clusters(centres, 1.0, (499, 1), noise=6)


def board() -> Table:
    """Three classes of three Gaussians each on a board of nine, and two features of noise."""
    squares = torch.cartesian_prod(torch.arange(3), torch.arange(3)).double()
    latin = (squares.sum(dim=1) % 3).argsort(stable=True)
    return clusters(2.5 * squares[latin].reshape(3, 3, 2), 0.8, (1, 1, 1), noise=2)


def copies() -> Collinear:
    """Three classes in a plane; a copy, three sums, and three noisy ones."""
    base = clusters([[[0, 0]], [[1.5, 0]], [[0.5, 1.5]]], 1.0, (2, 1, 1), noise=4)
    sums = [[1, 0], [1, 1], [1, -1], [2, 1], [1, 0], [0, 1], [1, 1]]
    sums = torch.nn.functional.pad(torch.tensor(sums).double(), (0, 4))
    return Collinear(base, sums, torch.tensor([0, 0, 0, 0, 0.1, 0.5, 1.0]).double())


def rounded() -> Table:
    """Measurements with one decimal, whole numbers and five grades."""
    columns = (
        rounded_normal([36.8, 37.3, 38.4], [0.4, 0.6, 0.8], 0.1),
        rounded_normal([70, 78, 95], [9, 10, 14], 1.0),
        category([[6, 3, 1, 0.5, 0.5], [2, 3, 3, 1, 1], [1, 1, 2, 3, 3]]),
    )
    return Table(columns, (6, 3, 1), noise=2)


def spirals() -> Table:
    """Two arms, each the other turned by half a circle, of Gaussians close to each other."""
    angle = 2.5 * math.pi * torch.linspace(0.15, 1, 48, dtype=torch.float64).sqrt()
    arm = angle[:, None] / 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return clusters(torch.stack([arm, -arm]), 0.6, (1, 1), noise=0)


def zipf() -> Table:
    """Ten classes with probabilities like 1, 1/2, ..., 1/10; all eight features matter."""
    generator = torch.Generator().manual_seed(0)
    means = 0.6 * torch.randn(10, 8, generator=generator, dtype=torch.float64)
    scales = 0.6 + torch.rand(10, 8, generator=generator, dtype=torch.float64)
    columns = [Normal(m, s) for m, s in zip(means.T, scales.T, strict=True)]
    return Table(tuple(columns), tuple(1 / k for k in range(1, 11)))


TABLES: dict[str, Distribution] = {
    "mixed-types": mixed_types(),
    "counts": purchases(),
    "sparse-d200": sparse(),
    "fraud0.002": fraud(),
    "heavy-tails": heavy_tails(),
    "clusters": board(),
    "spirals": spirals(),
    "product-d10": LogisticProduct(10, 3.0),
    "logistic-d20": LogisticRegression(20, slope=2.0, intercept=-1.5, correlation=0.7),
    "tree-d20": NoisyTree(20),
    "collinear": copies(),
    "rounded": rounded(),
    "quintiles-d8": OrdinalRegression(8, 0.5),
    "zipf-k10": zipf(),
}
