"""Numbers of images by hand and in exact arithmetic; the paper's lists against slow loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mi_common import cli
from mi_common.datasets import idx_images
from mi_common.errors import UserError
from pc_softmax.imbalance import class_limits, first_per_class, paper_digits, paper_files
from pc_softmax.recipes import parse_imbalance


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("none", "none"),
        ("paper", "paper"),
        ("step:1", "step:1"),
        ("exp:1e2", "exp:100"),
        ("exp:100.0", "exp:100"),
        ("step:2.5", "step:2.5"),
        ("exp:1234567.125", "exp:1234567.125"),
    ],
)
def test_a_rule_is_read_into_one_spelling(text, read):
    assert parse_imbalance(text) == read == parse_imbalance(read)


@pytest.mark.parametrize(
    "text",
    ["", "Paper", "paper:10", "none:", "step", "exp:", "exp:0.99", "exp:-3", "exp:inf", "exp:9:9"],
)
def test_another_rule_is_refused_with_what_is_allowed(text, user_error):
    parser = cli.Parser("test")
    parser.add_argument("--imbalance", type=parse_imbalance)
    line = user_error(parser.parse_args, ["--imbalance", text])
    assert f"{text!r} is not one of none, paper, step:RATIO, exp:RATIO" in line


@pytest.mark.parametrize(
    ("kind", "counts", "limits"),
    [
        ("none", [7, 3, 9], [7, 3, 9]),
        ("exp:10", [100, 40, 90], [40, 12, 4]),  # 40 / sqrt(10) = 12.6
        ("exp:1", [5, 6, 7], [5, 5, 5]),
        ("exp:49", [98, 98], [98, 2]),
        ("exp:8", [64, 70, 64, 80], [64, 32, 16, 8]),
        ("exp:32", [64] * 6, [64, 32, 16, 8, 4, 2]),  # floats make 3.9999 of the 4
        ("exp:1000", [20, 20, 20], [20, 1, 1]),
        ("step:4", [10, 9, 12, 30], [9, 9, 2, 2]),
        ("step:4", [10, 9, 12, 30, 9], [9, 9, 9, 2, 2]),  # the middle class keeps its images
        ("step:2.5", [50, 50], [50, 20]),
        ("step:100", [50, 60], [50, 1]),
    ],
)
def test_limits_by_hand(kind, counts, limits):
    kept = class_limits(kind, torch.tensor(counts))
    assert kept.tolist() == limits and kept.dtype == torch.int64


@pytest.mark.parametrize(
    ("classes", "each", "ratio", "total"),
    [(10, 5000, 100, 12_406), (10, 5000, 10, 20_431), (100, 500, 100, 10_847)],
)
def test_exponential_limits_give_the_published_sizes_of_long_tailed_cifar(
    classes, each, ratio, total
):
    assert class_limits(f"exp:{ratio}", torch.full((classes,), each)).sum() == total


@given(st.integers(1, 300), st.integers(1, 200), st.integers(2, 12))
def test_exponential_limits_in_exact_arithmetic(smallest, ratio, classes):
    """m <= n r^(-k/(K-1)) is m^(K-1) r^k <= n^(K-1), in whole numbers."""
    last = classes - 1
    exact = [
        max(m for m in range(smallest + 1) if m**last * ratio**k <= smallest**last)
        for k in range(classes)
    ]
    limits = class_limits(f"exp:{ratio}", torch.full((classes,), smallest))
    assert limits.tolist() == [max(m, 1) for m in exact]


def slow_list(labels: torch.Tensor, odd: int, even: int, start: int = 0) -> list[int]:
    """The rule of the paper's code: walk through the labels and keep the first of each class."""
    seen, kept = [0] * 10, []
    for position, label in enumerate(labels.tolist()):
        if seen[label] < (odd if label % 2 else even):
            seen[label] += 1
            kept.append(start + position)
    return kept


def test_first_per_class_keeps_file_order_and_gives_what_a_class_has():
    labels = torch.tensor([2, 0, 0, 2, 1, 0, 2, 2])
    assert first_per_class(labels, torch.tensor([2, 5, 3])).tolist() == [0, 1, 2, 3, 4, 6]
    assert first_per_class(labels, torch.tensor([0, 0, 1])).tolist() == [0]


def test_paper_lists_equal_a_slow_loop_and_lie_in_disjoint_windows():
    labels = torch.randint(0, 10, (60_000,), generator=torch.Generator().manual_seed(0))
    train, window = paper_digits(labels)
    assert train.tolist() == slow_list(labels[:40_000], 3000, 300)
    assert window.tolist() == slow_list(labels[40_000:50_000], 3000, 300, start=40_000)


def test_too_few_labels_are_a_user_error():
    with pytest.raises(UserError, match="49999 labels: download the whole training file"):
        paper_digits(torch.zeros(49_999, dtype=torch.int64))


def test_real_mnist_gives_16500_training_and_6559_test_images(real_mnist):
    _, labels = idx_images("mnist", real_mnist, "train")
    train, window = paper_digits(labels)
    assert (len(train), len(window)) == (16_500, 6_559)
    assert labels[train].bincount().tolist() == [300, 3000] * 5
    in_window = labels[40_000:50_000].bincount().tolist()
    expected = [count if digit % 2 else 300 for digit, count in enumerate(in_window)]
    assert labels[window].bincount().tolist() == expected


def test_paper_lists_of_files_equal_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randint(0, 5, (n,), generator=generator) for n in (140, 60))
    lists = paper_files(train, test, 5)
    for labels, positions, odd_id, even_id in zip(
        (train, test), lists, (10, 5), (30, 15), strict=True
    ):
        kept = slow_list(labels, odd=even_id, even=odd_id)  # an id is the label + 1
        assert positions.tolist() == kept
        assert 0 < len(kept) < len(labels)


@pytest.mark.parametrize("kind", ["paper", "linear:3"])
def test_limits_exist_for_rules_with_a_ratio_only(kind):
    with pytest.raises(ValueError, match=f"^'{kind}'.* none, step:RATIO or exp:RATIO"):
        class_limits(kind, torch.tensor([3, 3]))
