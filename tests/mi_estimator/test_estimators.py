"""The estimator reaches the truth with a small budget; intervals by hand; wrong input."""

import math

import pytest
import torch

from mi_common.engine import predict
from mi_common.information import pc_softmax_loss
from mi_estimator.estimators.base import MIEstimate
from mi_estimator.estimators.classifier import ClassifierMI
from mi_estimator.tasks.suites import SUITES

# One network, trained as in the paper, without validation set.
PAPER = {"members": 1, "val_fraction": 0.0, "lr": 5e-3, "weight_decay": 1e-4}


def fitted(objective: str, task, cpu, *, n: int = 20_000, seed: int = 0, **options) -> ClassifierMI:
    x, y = task.sample(n, torch.Generator().manual_seed(seed), exact_counts=True)
    options = PAPER | {"epochs": 6, "batch_size": 500} | options
    return ClassifierMI(objective, runtime=cpu, seed=seed, **options).fit(x, y)


@pytest.mark.parametrize("prior", ["balanced", "imbalanced"])
def test_both_objectives_come_within_hundredths_of_a_nat_of_the_truth(prior, cpu):
    task = SUITES["paper"][f"gaussian-d1-{prior}"].distribution
    truth, _ = task.mutual_information()
    x, y = task.sample(200_000, torch.Generator().manual_seed(99))
    values = []
    for objective in ("softmax", "pc-softmax"):
        estimate = fitted(objective, task, cpu).estimate(x, y)
        assert estimate.value == pytest.approx(truth, abs=0.03)
        assert estimate.lower < estimate.value < estimate.upper < task.label_entropy
        values.append(estimate.value)
    assert abs(values[0] - values[1]) < 0.02
    # log K - cross-entropy, as the original code has it, is 0.12 nat too high when imbalanced.
    assert prior == "balanced" or abs(values[0] - truth) < (math.log(5) - task.label_entropy) / 4


def test_the_estimate_is_minus_the_held_out_loss(cpu):
    """The mean of log r equals minus the PC-softmax loss on the same samples."""
    task = SUITES["paper"]["gaussian-d2-imbalanced"].distribution
    estimator = fitted("pc-softmax", task, cpu, n=1000, epochs=1)
    x, y = task.sample(3000, torch.Generator().manual_seed(5))
    logits = predict(estimator.network_, x, runtime=cpu)
    loss = pc_softmax_loss(logits, y, estimator.log_prior_)
    estimate = estimator.estimate(x, y)
    assert estimate.value == pytest.approx(-loss.item(), abs=1e-5)
    assert estimate.pointwise.shape == (3000,) and estimate.pointwise.dtype == torch.float64


def test_the_scale_and_place_of_the_features_do_not_matter(cpu):
    task = SUITES["paper"]["gaussian-d2-balanced"].distribution
    x, y = task.sample(2000, torch.Generator().manual_seed(0))
    held_out = task.sample(2000, torch.Generator().manual_seed(1))
    values = []
    for scale, shift in ((1.0, 0.0), (1024.0, 0.0), (2.0**-10, 4.0)):
        estimator = ClassifierMI(runtime=cpu, epochs=3, batch_size=100, **PAPER)
        estimator.fit(x * scale + shift, y)
        values.append(estimator.estimate(held_out[0] * scale + shift, held_out[1]).value)
    assert values == pytest.approx([values[0]] * 3, abs=0.01)
    assert values[0] > 1.1


def test_a_seed_fixes_the_estimate_and_leaves_the_global_random_state(cpu):
    task = SUITES["paper"]["gaussian-d1-balanced"].distribution
    x, y = task.sample(500, torch.Generator().manual_seed(9))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = fitted("softmax", task, cpu, n=500, epochs=2).estimate(x, y)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second = fitted("softmax", task, cpu, n=500, epochs=2).estimate(x, y)
    assert torch.equal(first.pointwise, second.pointwise)
    other = fitted("softmax", task, cpu, n=500, epochs=2, seed=1).estimate(x, y)
    assert not torch.equal(first.pointwise, other.pointwise)


def test_interval_by_hand():
    estimate = MIEstimate.from_pointwise(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert estimate.value == 3
    # squared deviations 4 + 1 + 0 + 9 = 14, variance 14 / 3, four samples
    half_width = 1.959964 * math.sqrt(14 / 3 / 4)
    assert (estimate.lower, estimate.upper) == pytest.approx((3 - half_width, 3 + half_width))
