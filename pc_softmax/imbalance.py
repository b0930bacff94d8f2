"""Imbalanced lists of images, chosen by rule and not by chance.

limits = class_limits("exp:100", class_counts(labels, num_classes))
chosen = first_per_class(labels, limits)
"""

import argparse
import math

import torch
from torch import Tensor

from mi_common.errors import UserError

PAPER_TRAIN_WINDOW, PAPER_TEST_WINDOW = (0, 40_000), (40_000, 50_000)
PAPER_KEPT_ODD, PAPER_KEPT_EVEN = 3_000, 300
# Images of the classes with odd and with even id, ids counted from 1, of image files.
PAPER_TRAIN_FILES, PAPER_TEST_FILES = (10, 30), (5, 15)


def parse_imbalance(text: str) -> str:
    """The type of --imbalance: `none`, `paper`, `step:RATIO` or `exp:RATIO`, RATIO from 1.

    Returns:
        The rule with its ratio in one spelling: "exp:100" for exp:1e2.

    Raises:
        argparse.ArgumentTypeError: another rule, or a ratio that is no number from 1.
    """
    rule, colon, number = text.partition(":")
    if rule in ("none", "paper") and not colon:
        return text
    try:
        ratio = float(number)
    except ValueError:
        ratio = math.nan
    if rule not in ("step", "exp") or not 1 <= ratio < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not one of none, paper, step:RATIO, exp:RATIO with a RATIO from 1"
        )
    return f"{rule}:{int(ratio) if ratio.is_integer() else ratio}"


def class_limits(kind: str, counts: Tensor) -> Tensor:
    """How many images of each class to keep so that the largest has `ratio` times the smallest.

    With n the count of the smallest class and k = 0..K-1, rounded down and at least 1:

        exp:RATIO    n ratio^(-k / (K - 1))                            Cui et al. 2019
        step:RATIO   n for the first half of the classes, the middle   Buda et al. 2018,
                     one included, n / ratio for the others            Cao et al. 2019

    Args:
        kind: "step:RATIO" or "exp:RATIO" as `parse_imbalance` gives it, or "none" for the counts.
        counts: (K,) positive counts of the classes there are, K at least 2.

    Returns:
        (K,) int64.
    """
    if kind == "none":
        return counts
    rule, _, ratio = kind.partition(":")
    if rule not in ("step", "exp"):
        raise ValueError(f"{kind!r}: want none, step:RATIO or exp:RATIO")
    smallest, last = int(counts.min()), len(counts) - 1
    shares = [k / last if rule == "exp" else float(2 * k > last) for k in range(last + 1)]
    # A quotient that is whole may come out a rounding error below it.
    kept = [math.floor(smallest / float(ratio) ** share + 1e-9) for share in shares]
    return torch.tensor(kept).clamp(min=1)


def first_per_class(labels: Tensor, limits: Tensor) -> Tensor:
    """Positions of the first `limits[k]` samples of each class k, in file order.

    (N,) labels and (K,) limits -> (M,) int64 positions, ascending; a class with fewer samples
    gives what it has.
    """
    keep = torch.zeros(len(labels), dtype=torch.bool)
    for k, limit in enumerate(limits.tolist()):
        keep[(labels == k).nonzero().flatten()[:limit]] = True
    return keep.nonzero().flatten()


def paper_digits(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The original's two lists in a training file of the MNIST family.

    Positions 0..39,999 are for training and 40,000..49,999 for test; of both windows the first
    3,000 images of each odd class and the first 300 of each even class are kept. On MNIST that
    makes 16,500 training and 6,559 test images.

    Args:
        labels: (60000,) labels of the official training file, in file order.

    Returns:
        Positions of the training and of the test images.
    """
    if len(labels) < PAPER_TEST_WINDOW[1]:
        raise UserError(f"{len(labels)} labels: the paper's lists need the whole training file")
    limits = torch.tensor([PAPER_KEPT_EVEN, PAPER_KEPT_ODD] * 5)
    train, test = (
        start + first_per_class(labels[start:stop], limits)
        for start, stop in (PAPER_TRAIN_WINDOW, PAPER_TEST_WINDOW)
    )
    return train, test


def paper_files(
    train_labels: Tensor, test_labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The original's two lists of CUB-200-2011; here the rule for other image files as well.

    Of the training images the first 10 of each class with an odd id and the first 30 of each with
    an even one, ids counted from 1; of the test images the first 5 and 15. On CUB that makes 3,997
    and 1,996: three classes have 29 training images only, and one has 11 test images.

    Args:
        train_labels, test_labels: (N,) and (M,) labels 0..K-1 (ids less one), in official order.

    Returns:
        Positions of the training images and, in the test file, of the test images.
    """
    even_id = torch.arange(num_classes) % 2
    train, test = (
        first_per_class(labels, torch.tensor(kept)[even_id])
        for labels, kept in ((train_labels, PAPER_TRAIN_FILES), (test_labels, PAPER_TEST_FILES))
    )
    return train, test
