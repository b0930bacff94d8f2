"""Imbalanced lists of images, chosen by rule and not by chance."""

import torch
from torch import Tensor

from common.errors import UserError

PAPER_TRAIN_WINDOW, PAPER_TEST_WINDOW = (0, 40_000), (40_000, 50_000)
PAPER_KEPT_ODD, PAPER_KEPT_EVEN = 3_000, 300


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
