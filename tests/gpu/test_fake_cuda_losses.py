"""Losses and the formula on fake CUDA tensors: one device from the logits to the value."""

import pytest
import torch
from fake_cuda import CUDA, assert_on_cuda, fake_cuda

from mi_common.information import (
    entropy,
    log_posterior,
    logits_from_softmax,
    pc_softmax_loss,
    pointwise_mutual_information,
)
from pc_softmax.losses import build_loss, logit_log_prior
from pc_softmax.names import LOSSES, REWEIGHTED_LOSSES, SMOOTHED_LOSSES

COUNTS = torch.tensor([40, 20, 10, 5])
OPTIONS = {
    "plain": ({}, LOSSES),
    "re-weighted": ({"drw": 0}, REWEIGHTED_LOSSES),
    "smoothed": ({"label_smoothing": 0.1}, SMOOTHED_LOSSES),
}
CASES = [(name, kind) for kind, (_, names) in OPTIONS.items() for name in names]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_loss_stays_on_the_device_of_the_logits(name, kind, dtype):
    loss = build_loss(name, COUNTS, **OPTIONS[kind][0])
    with fake_cuda():
        loss.to(CUDA)
        assert {buffer.device for buffer in loss.buffers()} <= {CUDA}
        logits = torch.randn(6, 4, device=CUDA, dtype=dtype, requires_grad=True)
        value = loss(logits, torch.randint(4, (6,), device=CUDA))
        assert_on_cuda(value)
        assert value.requires_grad


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ldam"])
def test_labels_on_the_cpu_are_an_error_of_every_loss(name):
    """The proof that these tests see a mix of devices; LDAM reads the values of CPU labels."""
    loss = build_loss(name, COUNTS)
    with fake_cuda(), pytest.raises(RuntimeError, match="device"):
        loss.to(CUDA)(torch.randn(6, 4, device=CUDA), torch.randint(4, (6,)))


@pytest.mark.parametrize("prior_device", ["cpu", CUDA])
def test_the_formula_follows_the_logits_wherever_the_prior_is(prior_device):
    with fake_cuda():
        logits = torch.randn(6, 4, device=CUDA, dtype=torch.float16)
        labels = torch.randint(4, (6,), device=CUDA)
        log_prior = torch.randn(4, device=prior_device)
        assert_on_cuda(entropy(log_prior.to(CUDA)))
        assert_on_cuda(pointwise_mutual_information(logits, log_prior), 6, 4)
        assert_on_cuda(logits_from_softmax(logits, log_prior), 6, 4)
        assert_on_cuda(log_posterior(logits, log_prior), 6, 4)
        assert_on_cuda(pc_softmax_loss(logits, labels, log_prior))
        assert_on_cuda(pc_softmax_loss(logits, labels, log_prior, reduction="none"), 6)


def test_the_prior_that_logits_hold_comes_back_to_the_cpu_to_be_saved():
    loss = build_loss("class-balanced", COUNTS)
    with fake_cuda():
        loss.to(CUDA)
    assert logit_log_prior(loss, COUNTS).device == torch.device("cpu")
