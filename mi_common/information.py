"""Pointwise mutual information from a classifier's logits: the formula of the whole project.

A network with logits f(x), trained by PC-softmax under the class prior p(k), gives

    log r(x, y) = f_y - log sum_k p(k) exp f_k  =  log p(x, y) / (p(x) p(y)).

Its mean over test pairs bounds the mutual information I(X;Y) from below, its negative is the
training loss, and its class maps are infoCAM (Qin, Kim and Gedeon 2019, arXiv 1911.10688).

Everything here is a pure function in log space; half-precision logits are raised to float32 first.
"""

import torch
from torch import Tensor

from mi_common.errors import UserError


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values in float32; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def pointwise_mutual_information(logits: Tensor, log_prior: Tensor) -> Tensor:
    """log p(x, y) / (p(x) p(y)) of every class, in nats (Qin et al. 2019, PC-softmax).

    Args:
        logits: (N, K) scores f(x) of a network trained with PC-softmax.
        log_prior: (K,) log class probabilities of the training data.

    Returns:
        (N, K). The mean over pairs of the label's column is the Barber-Agakov lower bound
        H(Y) - cross-entropy on I(X;Y). Adding a constant to a row of logits changes nothing.
    """
    logits = at_least_float32(logits)
    log_prior = log_prior.to(logits)
    return logits - torch.logsumexp(logits + log_prior, dim=1, keepdim=True)


def pc_softmax_loss(
    logits: Tensor, labels: Tensor, log_prior: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Minus the pointwise mutual information of the label: the PC-softmax loss, in nats.

    It has the gradient of balanced softmax (Ren et al. 2020) and of logit adjustment with
    tau = 1 (Menon et al. 2021), and differs from their value by log p(y): it may be negative, and
    its expectation is at least -I(X;Y).

    (N, K) logits, (N,) int64 labels and (K,) log prior; `reduction` is "mean", "sum" or "none".
    """
    loss = -select_label(pointwise_mutual_information(logits, log_prior), labels)
    return loss if reduction == "none" else getattr(loss, reduction)()


def logits_from_softmax(logits: Tensor, log_prior: Tensor) -> Tensor:
    """Logits of softmax cross-entropy turned into those of PC-softmax: g - log p(y).

    Softmax learns g = log p(y | x) up to a constant of x, so subtracting the training prior
    leaves the log density ratio. (N, K) and (K,) -> (N, K).
    """
    logits = at_least_float32(logits)
    return logits - log_prior.to(logits)


def log_posterior(logits: Tensor, log_target_prior: Tensor) -> Tensor:
    """log p_t(y | x) under the class prior t, from PC-softmax logits: log softmax(f + log t).

    (N, K) and (K,) -> (N, K). With t uniform, the argmax is the argmax of the logits.
    """
    logits = at_least_float32(logits)
    return torch.log_softmax(logits + log_target_prior.to(logits), dim=1)


def entropy(log_prior: Tensor) -> Tensor:
    """H(Y) in nats of a (K,) log prior; classes of probability zero add nothing."""
    return torch.special.entr(log_prior.exp()).sum()


def select_label(values: Tensor, labels: Tensor) -> Tensor:
    """The label's column of each row: (N, K) and (N,) -> (N,)."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """(K,) int64 counts; UserError for no labels, one outside 0..K-1, or a class without any."""
    if labels.numel() == 0:
        raise UserError("no labels: the training set is empty")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise UserError(f"label {wrong}: {num_classes} classes need labels 0..{num_classes - 1}")
    counts = torch.bincount(labels.flatten(), minlength=num_classes)
    if (counts == 0).any():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise UserError(f"classes {empty[:10]} have no training samples; remove them or add some")
    return counts


def log_prior_from_counts(counts: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """(K,) positive counts -> (K,) log probabilities of counts / sum(counts)."""
    if (counts <= 0).any():
        raise UserError("class counts must be positive: a prior of zero has no logarithm")
    counts = counts.double()
    return (counts / counts.sum()).log().to(dtype)


def log_prior_from_labels(labels: Tensor, num_classes: int) -> Tensor:
    """(N,) labels -> (K,) float32 log class frequencies; errors as in `class_counts`."""
    return log_prior_from_counts(class_counts(labels, num_classes))
