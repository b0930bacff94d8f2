"""Corrections of a trained softmax network, against loops and against each other."""

import math

import pytest
import torch
from torch import nn

from mi_common.information import log_posterior
from pc_softmax.posthoc import adjust_logits, tau_normalised

PRIOR = [0.7, 0.2, 0.1]
LOG_PRIOR = torch.tensor(PRIOR).log()


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_adjusted_logits_are_f_minus_tau_log_p(tau):
    logits = torch.tensor([[1.0, 2.0, 3.0], [-4.0, 0.0, 4.0]])
    expected = [
        [f - tau * math.log(p) for f, p in zip(row, PRIOR, strict=True)] for row in logits.tolist()
    ]
    torch.testing.assert_close(adjust_logits(logits, LOG_PRIOR, tau), torch.tensor(expected))


def test_full_adjustment_turns_the_bayes_posterior_into_that_of_balanced_classes():
    likelihood = torch.tensor([[0.3, 0.5, 0.9]])
    softmax_logits = likelihood.log() + LOG_PRIOR  # log p(y | x) up to a constant
    balanced = log_posterior(adjust_logits(softmax_logits, LOG_PRIOR), torch.zeros(3)).exp()
    torch.testing.assert_close(balanced, likelihood / likelihood.sum())
    assert softmax_logits.argmax() == 0 and balanced.argmax() == 2


def test_half_precision_logits_are_adjusted_in_float32():
    adjusted = adjust_logits(torch.zeros(1, 3, dtype=torch.half), LOG_PRIOR)
    assert torch.equal(adjusted, -LOG_PRIOR[None])


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0])
def test_normalised_weights_are_each_divided_by_a_power_of_its_length(tau):
    torch.manual_seed(0)
    head = nn.Linear(4, 3)
    weight, bias = tau_normalised(head.weight, head.bias, tau)
    for row, original in zip(weight.tolist(), head.weight.tolist(), strict=True):
        length = math.sqrt(sum(value**2 for value in original))
        assert row == pytest.approx([value / length**tau for value in original])
    assert bias.tolist() == [0, 0, 0]
    assert tau_normalised(head.weight, None, tau)[1] is None


def test_normalised_head_can_be_computed_from_the_logits_alone():
    torch.manual_seed(0)
    head, features = nn.Linear(4, 3), torch.randn(6, 4)
    weight, bias = tau_normalised(head.weight, head.bias, 0.7)
    expected = (head(features) - head.bias) / head.weight.norm(dim=1) ** 0.7
    torch.testing.assert_close(nn.functional.linear(features, weight, bias), expected)
