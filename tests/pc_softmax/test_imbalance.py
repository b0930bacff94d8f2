"""The paper's two lists of digits, against a slow loop and on the real MNIST."""

import pytest
import torch

from common.datasets import idx_images
from common.errors import UserError
from pc_softmax.imbalance import first_per_class, paper_digits


def slow_list(labels: torch.Tensor, start: int, stop: int) -> list[int]:
    """The rule as the paper's code states it: walk through the window, keep while there is room."""
    seen = [0] * 10
    kept = []
    for position in range(start, stop):
        label = int(labels[position])
        if seen[label] < (3000 if label % 2 else 300):
            seen[label] += 1
            kept.append(position)
    return kept


def test_first_per_class_keeps_file_order_and_gives_what_a_class_has():
    labels = torch.tensor([2, 0, 0, 2, 1, 0, 2, 2])
    assert first_per_class(labels, torch.tensor([2, 5, 3])).tolist() == [0, 1, 2, 3, 4, 6]
    assert first_per_class(labels, torch.tensor([0, 0, 1])).tolist() == [0]


def test_paper_lists_equal_a_slow_loop_and_lie_in_disjoint_windows():
    labels = torch.randint(0, 10, (60_000,), generator=torch.Generator().manual_seed(0))
    train, window = paper_digits(labels)
    assert train.tolist() == slow_list(labels, 0, 40_000)
    assert window.tolist() == slow_list(labels, 40_000, 50_000)
    assert train.max() < 40_000 <= window.min()
    assert window.max() < 50_000


def test_labels_after_the_two_windows_change_nothing():
    labels = torch.arange(60_000) % 10
    cut = paper_digits(labels[:50_000])
    assert all(torch.equal(a, b) for a, b in zip(paper_digits(labels), cut, strict=True))


def test_too_few_labels_are_a_user_error():
    with pytest.raises(UserError, match=r"49999 labels.*whole training file"):
        paper_digits(torch.zeros(49_999, dtype=torch.int64))


def test_real_mnist_gives_16500_training_and_6559_test_images(real_mnist):
    _, labels = idx_images("mnist", real_mnist, "train")
    train, window = paper_digits(labels)
    assert (len(train), len(window)) == (16_500, 6_559)
    assert labels[train].bincount().tolist() == [300, 3000] * 5
    in_window = labels[40_000:50_000].bincount().tolist()
    expected = [count if digit % 2 else 300 for digit, count in enumerate(in_window)]
    assert labels[window].bincount().tolist() == expected
    assert train.tolist() == slow_list(labels, 0, 40_000)
    assert window.tolist() == slow_list(labels, 40_000, 50_000)
