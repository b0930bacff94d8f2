"""Schedules by hand, the groups of an optimiser, and what its options do in real steps."""

import itertools

import pytest
import torch
from torch import nn

from mi_common.recipes import Training
from mi_common.training import build_optimizer, build_scheduler, learning_rate

PLAIN = {"epochs": 1, "batch_size": 1, "lr": 0.1, "momentum": 0.0}


@pytest.mark.parametrize(
    ("schedule", "steps", "warmup", "factors"),
    [
        ("constant", 4, 0, [1, 1, 1, 1]),
        ("constant", 5, 4, [0.25, 0.5, 0.75, 1, 1]),
        ("step", 8, 0, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("step", 8, 2, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("step", 5, 0, [1, 1, 1, 0.1, 0.01]),  # from 2.5 and from 3.75 on
        ("cosine", 4, 0, [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]),
        ("cosine", 6, 2, [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]),
        ("cosine", 3, 3, [1 / 3, 2 / 3, 1]),
    ],
)
def test_factors_by_hand(schedule, steps, warmup, factors):
    training = Training(**PLAIN, schedule=schedule)
    actual = [learning_rate(training, step, steps, warmup) for step in range(len(factors))]
    assert actual == pytest.approx(factors, abs=1e-12)


def test_milestones_are_fractions_of_all_steps():
    training = Training(**PLAIN, schedule="step", milestones=(0.2, 0.4, 0.8))
    actual = [learning_rate(training, step, 5, 0) for step in range(5)]
    assert actual == pytest.approx([1, 0.1, 0.01, 0.01, 0.001])


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def rates(network: nn.Sequential, steps: int, **options) -> list[list[float]]:
    """The learning rates of all groups at each of the steps of one epoch."""
    training = Training(**PLAIN | options)
    optimizer = build_optimizer(network, network[2], training)
    scheduler = build_scheduler(optimizer, training, steps // training.epochs)
    values = []
    for _ in range(steps):
        values.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return values


def test_schedules_scale_the_rate_of_every_group(network):
    actual = rates(network, 4, schedule="step", head_lr_ratio=10.0)
    assert actual == [pytest.approx([f * 0.1, f * 1.0]) for f in (1, 1, 0.1, 0.01)]
    actual = rates(network, 4, epochs=2, warmup_epochs=1, head_lr_ratio=10.0)
    assert actual == [pytest.approx([f * 0.1, f * 1.0]) for f in (0.5, 1, 1, 1)]


def test_a_constant_rate_needs_no_scheduler(network):
    training = Training(**PLAIN)
    assert build_scheduler(build_optimizer(network, network[2], training), training, 4) is None


def test_one_cycle_rises_to_the_rate_of_every_group_and_falls_to_nearly_zero(network):
    """From 1/25 of the peak, which is at three tenths, along half cosines, to 1/250,000 of it."""
    actual = rates(network, 10, schedule="one-cycle", head_lr_ratio=10.0)
    backbone, head = zip(*actual, strict=True)
    assert head == pytest.approx([10 * lr for lr in backbone])
    middle = (0.1 + 0.004) / 2
    assert backbone[:3] == pytest.approx([0.004, middle, 0.1])
    assert backbone[-1] == pytest.approx(0.1 / 250_000)
    assert all(a > b for a, b in itertools.pairwise(backbone[2:]))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_head_has_the_last_group_and_its_own_rate(network, name):
    options = {"optimizer": name, "weight_decay": 0.3, "head_lr_ratio": 5.0}
    training = Training(**PLAIN | options)
    backbone, head = build_optimizer(network, network[2], training).param_groups
    assert [id(p) for p in backbone["params"]] == [id(p) for p in network[0].parameters()]
    assert [id(p) for p in head["params"]] == [id(p) for p in network[2].parameters()]
    assert (backbone["lr"], head["lr"]) == (0.1, 0.5)
    assert backbone["weight_decay"] == head["weight_decay"] == 0.3
    (alone,) = build_optimizer(network[2], network[2], training).param_groups
    assert (len(alone["params"]), alone["lr"]) == (2, 0.5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_nesterovs_by_hand(nesterov):
    """Of w^2 / 2, whose gradient is w: v = g, then v = 0.9 v + g; w falls by lr v or, with
    Nesterov, by lr (g + 0.9 v)."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    training = Training(**PLAIN | {"momentum": 0.9, "nesterov": nesterov})
    optimizer = build_optimizer(layer, layer, training)
    value, velocity = 2.0, 0.0
    for _ in range(3):
        gradient = value
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        optimizer.zero_grad()
        (layer.weight.square() / 2).sum().backward()
        optimizer.step()
        assert layer.weight.item() == pytest.approx(value, abs=1e-6)
