"""Losses for imbalanced classification, to use in place of `nn.CrossEntropyLoss`."""

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.information import pc_softmax_loss

LOSSES = ("softmax", "pc-softmax")


class PCSoftmaxLoss(nn.Module):
    """Probability-corrected softmax cross-entropy: -f_y + log sum_k p(k) exp f_k.

    The logits become pointwise mutual information up to a constant of each sample, and their
    argmax maximises the mean per-class accuracy (Qin et al. 2019). See
    `common.information.pc_softmax_loss`.
    """

    def __init__(self, log_prior: Tensor):
        """
        Args:
            log_prior: (K,) log class probabilities of the training data.

        Raises:
            UserError: probabilities that are zero, or do not sum to one.
        """
        super().__init__()
        total = log_prior.double().exp().sum().item()
        if not torch.isfinite(log_prior).all() or abs(total - 1) > 1e-4:
            raise UserError(f"class prior {log_prior.exp().tolist()}: must be positive, sum to one")
        self.register_buffer("log_prior", log_prior.float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, K) logits and (B,) labels -> mean loss in nats; it may be negative."""
        return pc_softmax_loss(logits, labels, self.log_prior)


def build_loss(name: str, log_prior: Tensor) -> nn.Module:
    """The loss of a --loss name, for a training set with the given class prior.

    Raises:
        UserError: an unknown name.
    """
    if name == "softmax":
        return nn.CrossEntropyLoss()
    if name == "pc-softmax":
        return PCSoftmaxLoss(log_prior)
    raise UserError(f"loss {name!r}: use one of {', '.join(LOSSES)}")
