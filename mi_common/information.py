"""Pointwise mutual information from a classifier's logits: the formula of the whole project.

A network with logits f(x), trained by PC-softmax under the class prior p(k), gives

    log r(x, y) = f_y - log sum_k p(k) exp f_k  =  log p(x, y) / (p(x) p(y)).

Its mean over test pairs bounds the mutual information I(X;Y) from below, its negative is the
training loss, and its class maps are infoCAM (Qin, Kim and Gedeon 2019, arXiv 1911.10688).

Everything here is a pure function in log space; half-precision logits are raised to float32 first.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mi_common.errors import UserError


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values in float32; others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def class_dimension(logits: Tensor) -> int:
    """That of `nn.CrossEntropyLoss`: 1 of (N, K) and (N, K, d1, ...) logits, 0 of (K,) logits."""
    return min(1, logits.ndim - 1)


def along_classes(values: Tensor, logits: Tensor) -> Tensor:
    """(K,) values in the shape, dtype and device in which they apply to the classes of logits.

    UserError if the logits have another number of classes.
    """
    dim = class_dimension(logits)
    if logits.shape[dim] != len(values):
        raise UserError(
            f"logits of shape {tuple(logits.shape)}: dimension {dim} must have the "
            f"{len(values)} classes of the prior"
        )
    return values.to(logits).view(-1, *[1] * (logits.ndim - dim - 1))


def pointwise_mutual_information(logits: Tensor, log_prior: Tensor) -> Tensor:
    """log p(x, y) / (p(x) p(y)) of every class, in nats (Qin et al. 2019, PC-softmax).

    Args:
        logits: (N, K), (N, K, d1, ...) or (K,) scores f(x) of a network trained with PC-softmax.
        log_prior: (K,) log class probabilities of the training data.

    Returns:
        The shape of the logits. The mean over pairs of the label's column is the Barber-Agakov
        lower bound H(Y) - cross-entropy on I(X;Y). Adding a constant to a row of logits changes
        nothing.
    """
    logits = at_least_float32(logits)
    adjusted = logits + along_classes(log_prior, logits)
    return logits - adjusted.logsumexp(class_dimension(logits), keepdim=True)


def pc_softmax_loss(
    logits: Tensor,
    target: Tensor,
    log_prior: Tensor,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Minus the pointwise mutual information of the label: the PC-softmax loss, in nats.

    It has the gradient of balanced softmax (Ren et al. 2020) and of logit adjustment with
    tau = 1 (Menon et al. 2021), and differs from their value by log p(y): it may be negative, and
    its expectation is at least -I(X;Y).

    For a target distribution t it is - sum_k t_k log r_k, with log r the pointwise mutual
    information. Label smoothing replaces t by (1 - label_smoothing) t + label_smoothing / K.

    Args:
        logits: (N, K), (N, K, d1, ...) or (K,).
        target: labels, (N,), (N, d1, ...) or (), or probabilities t of the logits' shape.
        log_prior: (K,) log class probabilities.
        reduction: "mean" (over the labels that are not ignored), "sum" or "none".
        ignore_index: the loss of this label is zero; not for probabilities.

    UserError if logits and log prior differ in the number of classes, for another reduction, and
    for probabilities of another shape or with an `ignore_index` from 0.
    """
    information = pointwise_mutual_information(logits, log_prior)
    dim = class_dimension(logits)
    if target.shape == logits.shape:
        if ignore_index >= 0:
            raise UserError(f"ignore_index {ignore_index}: not for targets that are probabilities")
        target = at_least_float32(target)
        smoothed = (1 - label_smoothing) * target + label_smoothing / len(log_prior)
        loss = -(smoothed * information).sum(dim)
        count = loss.numel()
    else:
        if target.is_floating_point():
            shapes = f"{tuple(target.shape)} for logits of shape {tuple(logits.shape)}"
            raise UserError(f"probabilities of shape {shapes}: the shapes must be equal")
        target = target.long()  # before it is compared with -100, which is no uint8
        is_counted = target != ignore_index
        count = is_counted.sum()
        contiguous = information.contiguous()  # pixels' logits may have their channels last
        loss = F.nll_loss(contiguous, target, ignore_index=ignore_index, reduction="none")
        if label_smoothing:
            smooth = -information.mean(dim).where(is_counted, 0)
            loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    match reduction:
        case "none":
            return loss
        case "sum":
            return loss.sum()
        case "mean":
            return loss.sum() / count
    raise UserError(f"reduction {reduction!r}: use mean, sum or none")


def logits_from_softmax(logits: Tensor, log_prior: Tensor) -> Tensor:
    """Logits of softmax cross-entropy turned into those of PC-softmax: g - log p(y).

    Softmax learns g = log p(y | x) up to a constant of x, so subtracting the training prior
    leaves the log density ratio. (N, K), (N, K, d1, ...) or (K,) logits and a (K,) log prior.
    """
    logits = at_least_float32(logits)
    return logits - along_classes(log_prior, logits)


def log_posterior(logits: Tensor, log_target_prior: Tensor) -> Tensor:
    """log p_t(y | x) under the class prior t, from PC-softmax logits: log softmax(f + log t).

    (N, K), (N, K, d1, ...) or (K,) logits and a (K,) log prior t. With t uniform, the argmax is the
    argmax of the logits.
    """
    logits = at_least_float32(logits)
    logits = logits + along_classes(log_target_prior, logits)
    return logits.log_softmax(class_dimension(logits))


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
