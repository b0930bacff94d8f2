"""Calibration of a classifier's logits on samples that it was not trained on."""

import torch
from torch import Tensor

from mi_common.information import pc_softmax_loss


def fit_calibration(
    logits: Tensor, labels: Tensor, log_prior: Tensor, *, bias_sd: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The temperature and class biases that minimise the loss of validation samples.

    The calibrated logits are `scale * logits + bias`. Normal priors, of standard deviation 1 on the
    log scale and `bias_sd` on each bias, limit what few samples change; without samples the logits
    stay the same. A class with one or two samples may still get a wrong bias.

    (N, K) PC-softmax logits, (N,) labels and the (K,) log prior of the training data -> a scale
    above zero and a (K,) bias.
    """
    logits, log_prior = logits.double(), log_prior.double()
    options = {"dtype": torch.float64, "device": logits.device, "requires_grad": True}
    log_scale, bias = torch.zeros((), **options), torch.zeros(logits.shape[1], **options)
    optimizer = torch.optim.LBFGS([log_scale, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # A long step of the line search would overflow, and end the search with NaN.
        scale = log_scale.clamp(-10, 10).exp()
        loss = pc_softmax_loss(scale * logits + bias, labels, log_prior, reduction="sum")
        posterior = loss + (log_scale.square() + (bias / bias_sd).square().sum()) / 2
        posterior.backward()
        return posterior

    optimizer.step(closure)
    return log_scale.detach().clamp(-10, 10).exp(), bias.detach()
