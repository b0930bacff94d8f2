"""Relations between the losses: limits, equal gradients, equal training, the lower bound."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from mi_common.information import entropy, log_prior_from_counts
from pc_softmax.losses import (
    ClassBalancedLoss,
    FocalLoss,
    LADELoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PCSoftmaxLoss,
    VSLoss,
    WeightedLoss,
    build_loss,
)
from pc_softmax.names import LOSSES

PRIOR = torch.tensor([0.6, 0.3, 0.08, 0.02])


@st.composite
def cases(draw, min_count: int = 1):
    """(K,) counts; float64 logits and labels of a batch."""
    counts = torch.tensor(draw(st.lists(st.integers(min_count, 1000), min_size=2, max_size=6)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    n, scale = draw(st.integers(1, 20)), draw(st.sampled_from([0.1, 3.0, 100.0]))
    logits = scale * torch.randn(n, len(counts), generator=generator, dtype=torch.float64)
    return counts, logits, torch.randint(0, len(counts), (n,), generator=generator)


def gradient(loss, logits, labels) -> torch.Tensor:
    inputs = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(inputs, labels), inputs)[0]


def same(first, second, logits, labels, constant=0.0) -> None:
    """Equal gradients, and values that differ by `constant`; buffers are float32."""
    value = first(logits, labels) - second(logits, labels)
    torch.testing.assert_close(value, torch.as_tensor(constant).to(value), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        gradient(first, logits, labels), gradient(second, logits, labels), rtol=0, atol=1e-6
    )


@given(cases())
def test_pc_softmax_is_balanced_softmax_plus_the_log_prior_of_the_label(case):
    counts, logits, labels = case
    log_prior = log_prior_from_counts(counts, dtype=torch.float64)

    def balanced_softmax(logits, labels):
        return cross_entropy(logits + counts.double().log(), labels)

    pc_softmax = PCSoftmaxLoss.from_counts(counts)
    for adjusted in (balanced_softmax, LogitAdjustedLoss.from_counts(counts)):
        same(pc_softmax, adjusted, logits, labels, constant=log_prior[labels].mean())


@given(cases())
def test_no_adjustment_no_focus_and_no_margin_are_softmax(case):
    counts, logits, labels = case
    same(LogitAdjustedLoss.from_counts(counts, tau=0), cross_entropy, logits, labels)
    same(FocalLoss(gamma=0), cross_entropy, logits, labels)
    adjusted = LogitAdjustedLoss.from_counts(counts)
    same(LADELoss.from_counts(counts, weight=0), adjusted, logits, labels)
    same(VSLoss.from_counts(counts, gamma=0, tau=1), adjusted, logits, labels)
    ldam = LDAMLoss.from_counts(counts, max_margin=0, scale=7)
    same(ldam, lambda f, y: cross_entropy(7 * f, y), logits, labels)


@given(cases(), st.integers(1, 10**6))
def test_equal_counts_leave_softmax_and_weights_of_one(case, count):
    counts, logits, labels = case
    counts = torch.full_like(counts, count)
    for kind in (WeightedLoss, ClassBalancedLoss, FocalLoss):
        loss = kind.from_counts(counts)
        torch.testing.assert_close(loss.class_weight, torch.ones(len(counts)))
    for name in ("weighted", "class-balanced", "logit-adjusted", "vs"):
        same(build_loss(name, counts), cross_entropy, logits, labels)
    same(build_loss("focal", counts, drw=0), FocalLoss(), logits, labels)
    same(build_loss("ldam", counts, drw=0), LDAMLoss.from_counts(counts), logits, labels)
    shift = -torch.tensor(float(len(counts))).log()
    same(build_loss("pc-softmax", counts), cross_entropy, logits, labels, constant=shift)


@given(cases())
def test_adding_a_constant_to_a_samples_logits_changes_no_loss_but_lade_and_vs(case):
    counts, logits, labels = case
    for name in set(LOSSES) - {"lade", "vs"}:
        loss = build_loss(name, counts)
        torch.testing.assert_close(loss(logits, labels), loss(logits + 5.0, labels))


@given(cases())
def test_pc_softmax_never_falls_below_minus_entropy_and_reaches_it_in_the_limit(case):
    """The mean over labels that come as often as the prior says, whatever the logits are."""
    counts, logits, _ = case
    counts = counts.clamp_max(20)
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    loss = PCSoftmaxLoss.from_counts(counts)
    floor = -entropy(log_prior_from_counts(counts, dtype=torch.float64))
    any_logits = logits[torch.arange(len(labels)) % len(logits)]
    perfect = nn.functional.one_hot(labels).double()
    gaps = [loss(f, labels) - floor for f in (any_logits, perfect, 8 * perfect, 30 * perfect)]
    assert min(gaps) > -1e-6  # the prior's rounding
    assert gaps[1] > gaps[2] > gaps[3]
    assert gaps[3] < 1e-6


def gaussians(n: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes in the plane, drawn with PRIOR, in float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(PRIOR, n, replacement=True, generator=generator)
    centres = torch.tensor([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=torch.float64)
    return centres[labels] + torch.randn(n, 2, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_pc_softmax_is_softmax_whose_bias_starts_shifted_by_the_log_prior(momentum):
    inputs, labels = gaussians()
    log_prior = PRIOR.log()
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    shifted = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    shifted.load_state_dict(plain.state_dict())
    shifted[-1].bias.data += log_prior
    optimizers = [
        torch.optim.SGD(model.parameters(), lr=0.3, momentum=momentum) for model in (plain, shifted)
    ]
    start = plain(inputs).detach()
    for step in range(50):
        batch = slice(step * 8, step * 8 + 8)
        x, y = inputs[batch], labels[batch]
        PCSoftmaxLoss(log_prior)(plain(x), y).backward()
        cross_entropy(shifted(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        assert torch.allclose(plain(inputs), shifted(inputs) - log_prior, rtol=0, atol=1e-5), step
    assert (plain(inputs) - start).abs().mean() > 0.5  # both have moved
