"""After training: the prior that logits hold, and corrections of them or of the last layer."""

import torch
from torch import Tensor, nn

from mi_common.information import log_prior_from_counts, logits_from_softmax
from pc_softmax.losses import LogitAdjustedLoss, PCSoftmaxLoss, ReweightedLoss


def adjust_logits(logits: Tensor, log_prior: Tensor, tau: float = 1.0) -> Tensor:
    """f - tau log p, for logits of a softmax network (Menon et al. 2021, post-hoc).

    (N, K) and the (K,) log prior of the training data -> (N, K). tau = 1 gives the logits of
    PC-softmax, tau = 0 changes nothing.
    """
    return logits_from_softmax(logits, tau * log_prior)


def tau_normalised(
    weight: Tensor, bias: Tensor | None = None, tau: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """w_k / |w_k|^tau and no bias, for a trained linear head (Kang et al. 2020).

    (K, D) weights and the (K,) bias -> the same shapes, to load into the head; the bias is zero.
    Frequent classes tend to have long weight vectors: tau = 1 makes all of one length, tau = 0
    keeps them. From saved logits f the result is (f_k - b_k) / |w_k|^tau.
    """
    norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return weight / norms**tau, None if bias is None else torch.zeros_like(bias)


def logit_log_prior(loss: nn.Module, counts: Tensor, *, balanced: bool = False) -> Tensor:
    """The prior under which softmax(f) is the posterior of a network trained by a loss.

    Class weights w count as so many samples, and a loss that adds tau log p to f takes it out of
    them: p_k w_k / p_k^tau up to a factor. Exact for cross-entropies at their optimum; a focal
    term, LDAM's margins and label smoothing move it in a way that depends on the sample, which is
    left out.

    Args:
        loss: of `pc_softmax.losses`.
        counts: (K,) training samples of each class.
        balanced: whether classes were drawn equally often.

    Returns:
        (K,) float32 log probabilities.
    """
    log_prior = log_prior_from_counts(counts)
    result = torch.zeros_like(log_prior) if balanced else log_prior
    if isinstance(loss, PCSoftmaxLoss):
        result = result - log_prior
    elif isinstance(loss, LogitAdjustedLoss):
        result = result - loss.tau * log_prior
    elif isinstance(loss, ReweightedLoss) and loss.class_weight is not None:
        result = result + loss.class_weight.cpu().log()
    return torch.log_softmax(result, dim=0)
