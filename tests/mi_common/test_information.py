"""The formula against plain exp in float64, and against the losses it must agree with."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mi_common.errors import UserError
from mi_common.information import (
    class_counts,
    entropy,
    log_posterior,
    log_prior_from_counts,
    log_prior_from_labels,
    logits_from_softmax,
    pc_softmax_loss,
    pointwise_mutual_information,
)


def slow_density_ratio(logits, prior) -> np.ndarray:
    """exp(f_k) / sum_j p_j exp(f_j) as it is written in the paper, one number at a time."""
    ratio = np.zeros(np.shape(logits))
    for i, row in enumerate(logits):
        total = 0.0
        for p, f in zip(prior, row, strict=True):
            total += p * math.exp(f)
        for k, f in enumerate(row):
            ratio[i, k] = math.exp(f) / total
    return ratio


@st.composite
def problems(draw):
    """Logits, labels and the log prior of a small classification problem, in float64."""
    n, k = draw(st.integers(1, 6)), draw(st.integers(2, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits = draw(st.floats(0.1, 10)) * torch.randn(n, k, generator=generator).double()
    labels = torch.randint(k, (n,), generator=generator)
    counts = torch.randint(1, 1000, (k,), generator=generator)
    return logits, labels, log_prior_from_counts(counts, dtype=torch.float64)


@given(problems())
def test_pointwise_mutual_information_is_the_log_of_the_papers_ratio(problem):
    logits, _, log_prior = problem
    slow = slow_density_ratio(logits.tolist(), log_prior.exp().tolist())
    fast = pointwise_mutual_information(logits, log_prior)
    np.testing.assert_allclose(fast.numpy(), np.log(slow), rtol=1e-9, atol=1e-9)


@given(problems())
def test_the_loss_and_its_reductions_are_those_of_the_papers_ratio(problem):
    logits, labels, log_prior = problem
    slow = slow_density_ratio(logits.tolist(), log_prior.exp().tolist())
    expected = [-math.log(slow[i, y]) for i, y in enumerate(labels.tolist())]
    each = pc_softmax_loss(logits, labels, log_prior, reduction="none")
    np.testing.assert_allclose(each.numpy(), expected, rtol=1e-9, atol=1e-9)
    total = pc_softmax_loss(logits, labels, log_prior, reduction="sum").item()
    assert total == pytest.approx(sum(expected), rel=1e-9, abs=1e-9)
    mean = pc_softmax_loss(logits, labels, log_prior).item()
    assert mean == pytest.approx(sum(expected) / len(expected), rel=1e-9, abs=1e-9)


@given(problems())
def test_softmax_logits_of_the_posterior_give_back_the_ratio(problem):
    """Softmax learns log p(y|x) plus a constant; the identity must return the same ratio."""
    logits, _, log_prior = problem
    softmax_logits = torch.log_softmax(logits + log_prior, dim=1) + 3.0
    turned = logits_from_softmax(softmax_logits, log_prior)
    torch.testing.assert_close(
        pointwise_mutual_information(turned, log_prior),
        pointwise_mutual_information(logits, log_prior),
    )
    torch.testing.assert_close(turned, softmax_logits - log_prior)


@given(problems(), st.integers(0, 1000))
def test_posterior_under_a_target_prior_is_the_ratio_times_that_prior(problem, seed):
    logits, _, log_prior = problem
    counts = torch.randint(1, 50, (len(log_prior),), generator=torch.Generator().manual_seed(seed))
    target = log_prior_from_counts(counts, dtype=torch.float64)
    weighted = slow_density_ratio(logits.tolist(), log_prior.exp().tolist()) * target.exp().numpy()
    expected = weighted / weighted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_posterior(logits, target).exp().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "formula", [pointwise_mutual_information, logits_from_softmax, log_posterior]
)
def test_logits_of_pixels_and_of_one_sample_are_those_of_rows(formula):
    logits = torch.randn(2, 5, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    log_prior = log_prior_from_counts(torch.arange(1, 6), dtype=torch.float64)
    rows = formula(logits.movedim(1, -1).reshape(-1, 5), log_prior)
    pixels = formula(logits, log_prior)
    torch.testing.assert_close(pixels.movedim(1, -1).reshape(-1, 5), rows)
    torch.testing.assert_close(formula(logits[0, :, 0, 0], log_prior), rows[0])
    with pytest.raises(
        UserError, match=r"shape \(2, 5, 5, 3\): dimension 1 must have the 3 classes"
    ):
        formula(logits, log_prior[:3])


def test_logits_of_ten_thousand_give_exact_values_and_finite_gradients():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    log_prior = log_prior_from_counts(torch.tensor([1, 1, 2]))
    values = pointwise_mutual_information(logits, log_prior)
    expected = torch.tensor([[0.0, -2e4, -1e4], [-2e4, 0.0, -1e4]]) + math.log(4)
    torch.testing.assert_close(values, expected, rtol=0, atol=2e-3)  # float32's step at 1e4
    pc_softmax_loss(logits, torch.tensor([1, 1]), log_prior, reduction="sum").backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_raised_to_float32(dtype):
    half = (5 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))).to(dtype)
    labels = torch.arange(64) % 10
    log_prior = log_prior_from_counts(torch.arange(1, 11))
    uniform = torch.full((10,), -math.log(10))
    pairs = [
        (pointwise_mutual_information(half, log_prior), pointwise_mutual_information),
        (logits_from_softmax(half, log_prior), logits_from_softmax),
        (log_posterior(half, uniform), lambda logits, _: log_posterior(logits, uniform.double())),
        (
            pc_softmax_loss(half, labels, log_prior),
            lambda logits, prior: pc_softmax_loss(logits, labels, prior),
        ),
    ]
    for value, formula in pairs:
        assert value.dtype == torch.float32
        exact = formula(half.double(), log_prior.double())
        assert exact.dtype == torch.float64
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)


def test_entropy_of_uniform_and_of_impossible_classes():
    assert entropy(torch.full((8,), 1 / 8).log()).item() == pytest.approx(math.log(8), abs=1e-6)
    assert entropy(torch.tensor([0.0, 1.0]).log()).item() == 0


def test_class_counts_and_prior_by_hand():
    labels = torch.tensor([2, 0, 2, 1, 2, 2, 1, 2])
    assert class_counts(labels, 3).tolist() == [1, 2, 5]
    expected = torch.tensor([1 / 8, 2 / 8, 5 / 8])
    torch.testing.assert_close(log_prior_from_labels(labels, 3).exp(), expected)
    assert log_prior_from_labels(labels, 3).dtype == torch.float32


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], "no labels"),
        ([0, 1, 3], "label 3: 3 classes need labels 0..2"),
        ([0, -1, 2], "label -1: 3 classes need labels 0..2"),
        ([0, 2, 2], r"classes \[1\] have no training samples"),
    ],
)
def test_wrong_labels_are_user_errors(labels, message):
    with pytest.raises(UserError, match=message):
        log_prior_from_labels(torch.tensor(labels, dtype=torch.int64), 3)


def test_prior_of_zero_is_a_user_error():
    with pytest.raises(UserError, match="positive"):
        log_prior_from_counts(torch.tensor([3, 0]))
