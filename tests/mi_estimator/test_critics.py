"""Critic bounds: slow versions, order, caps and invariances; trained critics near the truth."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mi_common.information import log_prior_from_counts, log_prior_from_labels, select_label
from mi_estimator.estimators.critics import (
    BOUNDS,
    CriticMI,
    donsker_varadhan_bound,
    infonce_bound,
    jensen_shannon_bound,
    nwj_bound,
    pc_softmax_bound,
    smile,
)
from mi_estimator.tasks.suites import SUITES

# One network, trained as in the paper, without validation set.
PAPER = {"members": 1, "val_fraction": 0.0, "lr": 5e-3, "weight_decay": 1e-4}

SHARED = (pc_softmax_bound, donsker_varadhan_bound, nwj_bound)


def random_case(seed: int, *, n: int = 40, classes: int = 4, scale: float = 3.0):
    """Logits of any size, labels of every class, and a prior that is not theirs; float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % classes
    prior = torch.rand(classes, generator=generator, dtype=torch.float64)
    return logits, labels[torch.randperm(n, generator=generator)], (prior / prior.sum()).log()


def counted_joint() -> tuple[Tensor, Tensor, Tensor, float]:
    """Samples (x, y) of a 3 x 2 table of counts, log r of their own frequencies, and its I."""
    counts = torch.tensor([[6.0, 1.0], [2.0, 2.0], [1.0, 8.0]], dtype=torch.float64)
    joint = counts / counts.sum()
    ratio = (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log()
    x, y = (torch.arange(2).repeat(3), torch.arange(3).repeat_interleave(2))[::-1]
    repeats = counts.flatten().long()
    x, y = x.repeat_interleave(repeats), y.repeat_interleave(repeats)
    return x, y, ratio, (joint * ratio).sum().item()


def test_bounds_agree_with_slow_sums_over_all_pairs_of_features_and_labels():
    """With the labels' own frequencies as prior, s averages the critic over all N^2 pairs."""
    logits, labels, _ = random_case(0, n=20)
    log_prior = log_prior_from_labels(labels, 4).double()
    n, tau = 20, 2.0
    joint = sum(logits[i, labels[i]].item() for i in range(n)) / n
    pairs = [[logits[i, labels[j]].item() for j in range(n)] for i in range(n)]
    s = [sum(math.exp(f) for f in row) / n for row in pairs]
    clipped = [sum(math.exp(min(max(f, -tau), tau)) for f in row) / n for row in pairs]
    slow = {
        pc_softmax_bound: joint - sum(map(math.log, s)) / n,
        donsker_varadhan_bound: joint - math.log(sum(s) / n),
        nwj_bound: 1 + joint - sum(s) / n,
    }
    for bound, value in slow.items():
        terms = bound(logits, labels, log_prior)
        assert terms.shape == (n,)
        assert terms.mean().item() == pytest.approx(value, abs=1e-6)
    assert infonce_bound(logits, labels).mean().item() == pytest.approx(slow[pc_softmax_bound])
    value = joint - math.log(sum(clipped) / n)
    assert smile(logits, labels, log_prior, tau=tau).mean().item() == pytest.approx(value, abs=1e-6)
    own = sum(math.log1p(math.exp(-logits[i, labels[i]].item())) for i in range(n)) / n
    others = sum(math.log1p(math.exp(f)) for row in pairs for f in row) / n**2
    value = jensen_shannon_bound(logits, labels, log_prior).mean().item()
    assert value == pytest.approx(-own - others, abs=1e-6)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    classes=st.integers(1, 8),
    scale=st.floats(0, 30),
    shift=st.floats(-20, 20),
)
def test_pc_softmax_is_above_donsker_varadhan_is_above_nwj(seed, n, classes, scale, shift):
    """Exact on every sample, for every critic and prior, if the three share them."""
    logits, labels, log_prior = random_case(seed, n=n, classes=classes, scale=scale)
    pc, dv, nwj = (bound(logits + shift, labels, log_prior).mean().item() for bound in SHARED)
    slack = 1e-9 * (1 + abs(dv) + abs(nwj))
    assert pc >= dv - slack
    assert dv >= nwj - slack
    # A posterior is at most 1, so the mean of log r never passes that of -log p(y), H(Y).
    assert pc <= -log_prior[labels].mean().item() + slack
    assert infonce_bound(logits, labels).mean().item() <= math.log(n) + slack


def test_the_order_is_strict_but_where_s_is_constant_or_one():
    logits, labels, log_prior = random_case(1)
    pc, dv, nwj = (bound(logits, labels, log_prior).mean().item() for bound in SHARED)
    assert pc > dv + 0.1 and dv > nwj + 0.1
    ratio = logits - torch.logsumexp(logits + log_prior, dim=1, keepdim=True)  # s = 1 everywhere
    values = [bound(ratio, labels, log_prior).mean().item() for bound in SHARED]
    assert values == pytest.approx([pc] * 3)
    values = [bound(ratio + 2, labels, log_prior).mean().item() for bound in SHARED]  # s = e^2
    assert values == pytest.approx([pc, pc, pc + 3 - math.exp(2)])


def test_what_a_shift_of_the_logits_does():
    logits, labels, log_prior = random_case(2)
    rows = torch.linspace(-3, 5, 40, dtype=torch.float64)[:, None]
    for function, arguments in (
        (pc_softmax_bound, (labels, log_prior)),
        (infonce_bound, (labels,)),
    ):
        assert function(logits + rows, *arguments) == pytest.approx(function(logits, *arguments))
    moved = donsker_varadhan_bound(logits + 4, labels, log_prior)
    assert moved == pytest.approx(donsker_varadhan_bound(logits, labels, log_prior))
    own = donsker_varadhan_bound(logits + rows, labels, log_prior)  # of each sample its own
    assert own.mean() < moved.mean() - 0.1
    s = (logits + log_prior).exp().sum(dim=1)
    expected = 1 + select_label(logits, labels) + 0.5 - math.exp(0.5) * s
    assert nwj_bound(logits + 0.5, labels, log_prior) == pytest.approx(expected)


def test_the_true_ratio_is_the_optimum_of_every_bound_and_reaches_i():
    x, y, ratio, information = counted_joint()
    log_prior = log_prior_from_labels(y, 2).double()
    for bound in (*SHARED, smile, jensen_shannon_bound, infonce_bound):
        table = ratio.clone().requires_grad_()
        terms = bound(table[x], y) if bound is infonce_bound else bound(table[x], y, log_prior)
        terms.mean().backward()
        assert table.grad.abs().max() < 1e-7
        if bound is not jensen_shannon_bound:
            assert terms.mean().item() == pytest.approx(information, abs=1e-7)


def test_infonce_cannot_pass_the_entropy_of_its_batch():
    """A perfect critic of 1000 classes: I = log 1000, and a batch of 32 sees at most log 32."""
    labels = 31 * torch.arange(32)
    logits = 100.0 * torch.nn.functional.one_hot(labels, 1000).double()
    log_prior = log_prior_from_counts(torch.ones(1000))
    assert pc_softmax_bound(logits, labels, log_prior).mean().item() == pytest.approx(
        math.log(1000)
    )
    assert infonce_bound(logits, labels).mean().item() == pytest.approx(math.log(32))
    twice = infonce_bound(logits[:16].repeat(2, 1), labels[:16].repeat(2))
    assert twice.mean().item() == pytest.approx(math.log(16))


def test_smile_is_donsker_varadhan_within_the_clip_and_no_bound_beyond():
    logits, labels, log_prior = random_case(4)
    reference = donsker_varadhan_bound(logits, labels, log_prior)
    assert torch.equal(smile(logits, labels, log_prior, tau=math.inf), reference)
    largest = logits.abs().max().item()
    assert torch.equal(smile(logits, labels, log_prior, tau=largest), reference)
    # A constant critic knows nothing, I is at most log 4, and SMILE reads 10 - 5.
    constant = torch.full((40, 4), 10.0)
    assert smile(constant, labels, log_prior).mean().item() == pytest.approx(5.0)
    assert donsker_varadhan_bound(constant, labels, log_prior).mean().abs() < 1e-5


@pytest.mark.parametrize("bound", [donsker_varadhan_bound, smile])
def test_delta_method_has_the_spread_of_repeated_estimates(bound):
    task = SUITES["paper"]["gaussian-d1-imbalanced"].distribution
    x, y = task.sample(300 * 2000, torch.Generator().manual_seed(0))
    logits = 0.8 * task.log_ratio(x) + 0.3 * x.double()  # not the optimum
    batches = zip(logits.split(300), y.split(300), strict=True)
    terms = torch.stack([bound(f, labels, task.log_prior) for f, labels in batches])
    assert terms.shape == (2000, 300)
    predicted = terms.var(dim=1).mean().sqrt() / 300**0.5
    assert predicted.item() == pytest.approx(terms.mean(dim=1).std().item(), rel=0.06)


def test_mine_divides_its_gradient_by_the_moving_average(cpu):
    logits, labels, log_prior = random_case(5)
    critic = CriticMI("mine", runtime=cpu, average_rate=0.25)
    critic.log_prior_, critic._log_average = log_prior, None
    gradients = []
    for batch in (logits, logits + 1):
        batch = batch.clone().requires_grad_()
        loss = critic._loss(batch, labels)
        dv = donsker_varadhan_bound(batch, labels, log_prior).mean()
        assert loss.item() == pytest.approx(-dv.item())
        exact = -torch.autograd.grad(dv, batch)[0]
        gradients.append((torch.autograd.grad(loss, batch)[0], exact))
    assert gradients[0][0] == pytest.approx(gradients[0][1], abs=1e-12)
    # The second batch's mean is e times the average's, which becomes 0.75 + 0.25 e times it.
    own = torch.zeros(40, 4, dtype=torch.float64).scatter(1, labels[:, None], -1 / 40)
    expected = own + (gradients[1][1] - own) * math.e / (0.75 + 0.25 * math.e)
    assert gradients[1][0] == pytest.approx(expected, abs=1e-12)


def test_the_other_losses_are_their_bound_and_smile_s_is_jensen_shannon_s(cpu):
    logits, labels, log_prior = random_case(6)
    expected = {
        "nwj": nwj_bound(logits, labels, log_prior),
        "infonce": infonce_bound(logits, labels),
        "smile": jensen_shannon_bound(logits, labels, log_prior),
    }
    for bound, terms in expected.items():
        critic = CriticMI(bound, runtime=cpu)
        critic.log_prior_ = log_prior
        assert critic._loss(logits, labels).item() == pytest.approx(-terms.mean().item())


def trained(bound: str, cpu, *, n: int = 20_000, **options) -> CriticMI:
    task = SUITES["paper"]["gaussian-d1-imbalanced"].distribution
    x, y = task.sample(n, torch.Generator().manual_seed(0), exact_counts=True)
    options = PAPER | {"epochs": 6, "batch_size": 500} | options
    return CriticMI(bound, runtime=cpu, **options).fit(x, y)


@pytest.mark.parametrize("bound", BOUNDS)
def test_each_critic_comes_near_the_truth_in_little_time(bound, cpu):
    task = SUITES["paper"]["gaussian-d1-imbalanced"].distribution
    x, y = task.sample(50_001, torch.Generator().manual_seed(1))
    order = y.argsort()  # InfoNCE must not make its batches of one class
    critic = trained(bound, cpu)
    estimate = critic.estimate(x[order], y[order])
    assert estimate.value == pytest.approx(task.mutual_information()[0], abs=0.05)
    assert estimate.pointwise.shape == (50_001,)
    assert 0.01 < estimate.upper - estimate.lower < 0.03
    # The optimum of all four is log r up to the constant that their bound leaves free.
    difference = critic.log_ratio(x) - task.log_ratio(x)
    assert select_label(difference, y).abs().mean() < 0.1


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_seed_fixes_the_estimate_and_a_second_fit_starts_anew(bound, cpu):
    x, y = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)), torch.arange(400) % 3
    critic, other = (
        CriticMI(bound, runtime=cpu, seed=seed, epochs=2, batch_size=50, **PAPER) for seed in (0, 1)
    )
    first = critic.fit(x, y).estimate(x, y)
    assert torch.equal(critic.fit(x, y).estimate(x, y).pointwise, first.pointwise)
    assert not torch.equal(other.fit(x, y).estimate(x, y).pointwise, first.pointwise)
