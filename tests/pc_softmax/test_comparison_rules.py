"""How `pc_softmax.compare` reads the logits of a loss, and when LDAM-DRW weights classes."""

import numpy as np
import pytest
import torch

from mi_common.information import log_posterior
from pc_softmax.comparison import by_rule, train_flags
from pc_softmax.losses import build_loss, logit_log_prior
from pc_softmax.names import LOSSES
from pc_softmax.predictions import Predictions


@pytest.mark.parametrize("name", LOSSES)
def test_a_prior_in_the_logits_is_subtracted_and_otherwise_one_is_added(name):
    counts = torch.tensor([7000, 901, 33, 5, 1])
    log_prior = logit_log_prior(build_loss(name, counts), counts).numpy().astype(float)
    training = np.log(counts.numpy() / counts.sum().item())
    logits = np.random.default_rng(0).normal(size=(20, 5))
    head = np.ones(5), np.zeros(5)
    saved = Predictions(training, counts.numpy(), log_prior, list("abcde"), {}, None, head)
    rules = by_rule(saved, logits, name)
    if name in ("weighted", "pc-softmax", "logit-adjusted", "lade"):
        np.testing.assert_allclose(rules["prior added"], logits + training)
    else:
        arrays = rules["prior subtracted"], log_prior  # added again, it gives the same posterior
        posterior = log_posterior(*map(torch.from_numpy, arrays))
        expected = torch.from_numpy(logits).log_softmax(dim=1)
        np.testing.assert_allclose(posterior, expected, atol=1e-6)
    assert len(rules) == (3 if name == "softmax" else 2)


def test_only_softmax_with_a_linear_head_is_tau_normalised():
    log_prior = np.log(np.array([0.9, 0.1]))
    saved = Predictions(log_prior, np.array([9, 1]), log_prior, list("ab"), {}, None)
    assert list(by_rule(saved, np.zeros((1, 2)), "softmax")) == ["as trained", "prior subtracted"]


def test_rounding_errors_of_class_weights_are_not_a_prior():
    generator = torch.Generator().manual_seed(321)
    counts = torch.randint(1, 20_000, (200,), generator=generator)
    log_prior = logit_log_prior(build_loss("weighted", counts), counts).numpy()
    assert np.ptp(log_prior) > 1e-6  # in float32, equal but for the last digits
    training = np.log(counts.numpy() / counts.sum().item())
    saved = Predictions(training, counts.numpy(), log_prior, [""] * 200, {}, None)
    assert list(by_rule(saved, np.zeros((1, 200)), "weighted")) == ["as trained", "prior added"]


@pytest.mark.parametrize(
    ("epochs", "start"), [(1, 0), (2, 1), (4, 3), (5, 4), (8, 6), (30, 24), (45, 36)]
)
def test_ldam_drw_has_class_weights_in_the_last_fifth_of_the_epochs(tmp_path, epochs, start):
    assert train_flags({"epochs": epochs}, "ldam-drw", 0, tmp_path)["drw"] == start < epochs
