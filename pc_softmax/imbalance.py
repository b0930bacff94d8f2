"""Imbalanced lists of images: the first images of each class, without random draws.

limits = class_limits("exp:100", class_counts(labels, num_classes))
positions = first_per_class(labels, limits)
"""

import math

import torch
from torch import Tensor

from mi_common.errors import UserError

PAPER_TRAIN_WINDOW, PAPER_TEST_WINDOW = (0, 40_000), (40_000, 50_000)
PAPER_KEPT_ODD, PAPER_KEPT_EVEN = 3_000, 300
# Images of a class with an odd and with an even id, in sets of image files; the first id is 1.
PAPER_TRAIN_FILES, PAPER_TEST_FILES = (10, 30), (5, 15)


def class_limits(kind: str, counts: Tensor) -> Tensor:
    """Number of images of each class to keep.

    n is the count of the smallest class, and k = 0..K-1. Numbers are rounded down, to 1 at least:

        none         the counts
        exp:RATIO    n ratio^(-k / (K - 1))                            Cui et al. 2019
        step:RATIO   n for the first half of the classes, the middle   Buda et al. 2018,
                     class included, and n / ratio for the others      Cao et al. 2019

    `kind` is as `pc_softmax.recipes.parse_imbalance` returns it, but not "paper". (K,) positive
    counts -> (K,) int64.
    """
    if kind == "none":
        return counts
    rule, _, ratio = kind.partition(":")
    if rule not in ("exp", "step"):
        raise ValueError(f"{kind!r}: use none, step:RATIO or exp:RATIO")
    smallest, last = int(counts.min()), len(counts) - 1
    shares = [k / last if rule == "exp" else float(2 * k > last) for k in range(last + 1)]
    # Rounding may put a whole number slightly below itself.
    kept = [math.floor(smallest / float(ratio) ** share + 1e-9) for share in shares]
    return torch.tensor(kept).clamp(min=1)


def first_per_class(labels: Tensor, limits: Tensor) -> Tensor:
    """Positions of the first `limits[k]` samples of each class k, or of all if it has fewer.

    (N,) labels and (K,) limits -> (M,) int64 positions, ascending.
    """
    keep = torch.zeros(len(labels), dtype=torch.bool)
    for k, limit in enumerate(limits.tolist()):
        keep[(labels == k).nonzero().flatten()[:limit]] = True
    return keep.nonzero().flatten()


def paper_digits(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The original code's training and test list, both from a training file of the MNIST family.

    The training list is taken from positions 0..39,999 and the test list from 40,000..49,999. Each
    holds the first 3,000 images of every odd class and the first 300 of every even class. For MNIST
    these are 16,500 training and 6,559 test images. (60000,) labels -> positions of both lists.
    """
    if len(labels) < PAPER_TEST_WINDOW[1]:
        raise UserError(f"only {len(labels)} labels: download the whole training file again")
    limits = torch.tensor([PAPER_KEPT_EVEN, PAPER_KEPT_ODD] * 5)
    windows = (PAPER_TRAIN_WINDOW, PAPER_TEST_WINDOW)
    return tuple(start + first_per_class(labels[start:stop], limits) for start, stop in windows)


def paper_files(
    train_labels: Tensor, test_labels: Tensor, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The original code's training and test list for CUB-200-2011, also for other image files.

    The training list holds the first 10 images of each class with an odd id and the first 30 of
    each class with an even id; the first class has id 1. The test list holds the first 5 and 15.
    For CUB these are 3,997 and 1,996 images: three classes have only 29 training images, and one
    class has 11 test images. (N,) and (M,) labels 0..K-1 (id - 1) -> positions of both lists.
    """
    even_id = torch.arange(num_classes) % 2
    lists = ((train_labels, PAPER_TRAIN_FILES), (test_labels, PAPER_TEST_FILES))
    return tuple(first_per_class(labels, torch.tensor(kept)[even_id]) for labels, kept in lists)
