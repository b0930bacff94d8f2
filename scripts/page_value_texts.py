"""Texts of numbers in sentences of the pages, for `scripts.page_values`."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pandas as pd

from mi_common.tables import interval_half_width, number, with_half_width

Values = Iterator[tuple[str, str]]  # names and numbers


def rounded_up(value: float, digits: int) -> str:
    """A bound that stays one: to so many decimals, never down."""
    scaled = round(value * 10**digits, 6)  # without the error of binary fractions
    return number(np.ceil(scaled) / 10**digits, digits)


def over_seeds(prefix: str, by_seed: pd.DataFrame, digits: int) -> Values:
    """Means of the columns and of the differences of any two, in percent and points.

    Args:
        by_seed: a row for each seed, a column for each method; none is missing.
    """
    names, values = list(by_seed), 100 * by_seed.to_numpy()
    pairs = list(permutations(range(len(names)), 2))
    titles = names + [f"{names[a]} - {names[b]}" for a, b in pairs]
    left, right = np.array(pairs, dtype=int).reshape(-1, 2).T  # of one method alone, none
    columns = np.hstack([values, values[:, left] - values[:, right]])
    half_widths = interval_half_width(columns)
    for title, mean, half_width in zip(titles, columns.mean(axis=0), half_widths, strict=True):
        yield f"{prefix}/{title}", with_half_width(mean, half_width, digits)
