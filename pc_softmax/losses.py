"""Losses for imbalanced classification; each can replace `nn.CrossEntropyLoss`.

    loss = PCSoftmaxLoss.from_labels(train_labels, num_classes)
    value = loss(logits, labels)  # (B, K) and (B,) -> mean loss, in nats unless weighted

In the formulas, f are the logits, y is the label, n_k is the number of training samples of class
k, and p_k is its share of the training samples, the prior.

Half-precision logits are converted to float32 first. Priors, weights and margins are float32
buffers that follow the loss to a device; `.half()` and `.double()` do not change their type.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mi_common import information
from mi_common.errors import UserError
from pc_softmax.names import LOSSES, REWEIGHTED_LOSSES, SMOOTHED_LOSSES


class SoftmaxLoss(nn.CrossEntropyLoss):
    """Softmax cross-entropy, -log softmax(f)_y: the baseline."""

    def __init__(self, *, label_smoothing: float = 0.0):
        _check_range("--label-smoothing", label_smoothing, 0, 1)
        super().__init__(label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(information.at_least_float32(logits), labels)


class _FrequencyLoss(nn.Module):
    """Base of the losses that use the class frequencies of the training set.

    `from_counts` takes (K,) positive class counts and the constructor's options.
    """

    @classmethod
    def from_labels(cls, labels: Tensor, num_classes: int, **options) -> "_FrequencyLoss":
        """From (N,) training labels; options as in `from_counts`, errors as in `class_counts`."""
        return cls.from_counts(information.class_counts(labels, num_classes), **options)

    def _apply(self, fn, recurse=True):
        # PyTorch calls this for .to(), .half() and .cuda(). It takes the device and keeps the
        # dtype: in bfloat16 a log prior of -5 would be off by up to 0.016, and so would the logits.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)


class PriorLoss(_FrequencyLoss):
    """Base of the losses that correct the logits by the training prior."""

    def __init__(self, log_prior: Tensor):
        """(K,) log class probabilities; UserError if one is zero or their sum is not one."""
        super().__init__()
        total = log_prior.double().exp().sum().item()
        if not torch.isfinite(log_prior).all() or abs(total - 1) > 1e-4:
            prior = log_prior.exp().tolist()
            raise UserError(f"class prior {prior}: must be positive and sum to one")
        self.register_buffer("log_prior", log_prior.float())

    @classmethod
    def from_counts(cls, counts: Tensor, **options) -> "PriorLoss":
        return cls(information.log_prior_from_counts(_positive("class counts", counts)), **options)


class PCSoftmaxLoss(PriorLoss):
    """Probability-corrected softmax cross-entropy: -f_y + log sum_k p_k exp f_k.

    The logits learn the pointwise mutual information, up to a constant per sample. Their argmax
    maximises the mean per-class accuracy (Qin et al. 2019). It may be negative; the formula is in
    `mi_common.information.pc_softmax_loss`.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return information.pc_softmax_loss(logits, labels, self.log_prior)


class LogitAdjustedLoss(PriorLoss):
    """Cross-entropy of adjusted logits: -log softmax(f + tau log p)_y (Menon et al. 2021).

    tau = 0 is softmax. tau = 1 is balanced softmax (Ren et al. 2020): its value is that of
    PC-softmax minus log p_y, and their gradients are equal.
    """

    def __init__(self, log_prior: Tensor, *, tau: float = 1.0):
        super().__init__(log_prior)
        _check_range("--tau", tau, 0)
        self.tau = tau

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        return F.cross_entropy(logits + self.tau * self.log_prior.to(logits), labels)


class ReweightedLoss(_FrequencyLoss):
    """Base of the losses with class weights w, which can start in a later epoch.

    The mean over a batch is weighted: sum_i w_{y_i} loss_i / sum_i w_{y_i}, as in
    `nn.CrossEntropyLoss(weight=w)`. The scale of w cancels, and in a batch of one class the
    weights have no effect.

    Deferred re-weighting (Cao et al. 2019): the training loop calls `start_epoch` before each
    epoch, and the weights are used from epoch `reweight_from` on, counted from zero.
    """

    def __init__(self, class_weight: Tensor | None = None, *, reweight_from: int = 0):
        """(K,) positive weights, or None for no weights; the first epoch that uses them."""
        super().__init__()
        _check_range("--drw", reweight_from, 0)
        if class_weight is not None:
            class_weight = _positive("class weights", class_weight).float()
        self.register_buffer("class_weight", class_weight)
        self.reweight_from = reweight_from
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Turns the weights off or on for the epoch that begins, counted from zero."""
        self.reweighting = epoch >= self.reweight_from

    def _weight(self, logits: Tensor) -> Tensor:
        if self.reweighting and self.class_weight is not None:
            return self.class_weight.to(logits)
        return logits.new_ones(logits.shape[1])


class WeightedLoss(ReweightedLoss):
    """Cross-entropy -w_y log softmax(f)_y; `from_counts` sets w_k proportional to 1 / n_k.

    The mean and label smoothing are those of `nn.CrossEntropyLoss`.
    """

    def __init__(self, class_weight: Tensor, *, label_smoothing: float = 0.0, **deferred):
        super().__init__(class_weight, **deferred)
        _check_range("--label-smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_counts(cls, counts: Tensor, **options) -> "WeightedLoss":
        return cls(inverse_frequency_weights(counts), **options)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        weight = self._weight(logits)
        return F.cross_entropy(logits, labels, weight, label_smoothing=self.label_smoothing)


class ClassBalancedLoss(WeightedLoss):
    """`WeightedLoss` with the weights of Cui et al. (2019), see `class_balanced_weights`."""

    @classmethod
    def from_counts(cls, counts: Tensor, *, beta: float = 0.9999, **options) -> "ClassBalancedLoss":
        return cls(class_balanced_weights(counts, beta), **options)


class FocalLoss(ReweightedLoss):
    """-w_y (1 - q_y)^gamma log q_y with q = softmax(f) (Lin et al. 2017, where w is alpha).

    gamma = 0 is softmax. `from_counts` sets class-balanced weights (Cui et al. 2019).
    """

    def __init__(self, class_weight: Tensor | None = None, *, gamma: float = 2.0, **deferred):
        super().__init__(class_weight, **deferred)
        _check_range("--gamma", gamma, 0)
        self.gamma = gamma

    @classmethod
    def from_counts(cls, counts: Tensor, *, beta: float = 0.9999, **options) -> "FocalLoss":
        return cls(class_balanced_weights(counts, beta), **options)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        # Above zero: at zero, a power gamma < 1 has an infinite slope.
        error = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).tiny)
        weight = self._weight(logits)[labels]
        return (weight * error**self.gamma * cross_entropy).sum() / weight.sum()


class LDAMLoss(ReweightedLoss):
    """Label-distribution-aware margins (Cao et al. 2019): -log softmax(s (f - m_y e_y))_y.

    The label's logit must exceed the others by m_y. Margins have a meaning only for bounded logits:
    the cosines of a `pc_softmax.networks.CosineHead`. The scale s widens their small range.
    """

    def __init__(self, margins: Tensor, *, scale: float = 30.0, **weighting):
        """(K,) margins m, such as those of `ldam_margins`, and the scale s."""
        super().__init__(**weighting)
        _check_range("--scale", scale, 0)
        self.scale = scale
        self.register_buffer("margins", margins.float())

    @classmethod
    def from_counts(cls, counts: Tensor, *, max_margin: float = 0.5, **options) -> "LDAMLoss":
        return cls(ldam_margins(counts, max_margin), **options)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        margins = F.one_hot(labels, logits.shape[1]) * self.margins.to(logits)
        return F.cross_entropy(self.scale * (logits - margins), labels, self._weight(logits))


def inverse_frequency_weights(counts: Tensor) -> Tensor:
    """1 / n_k, scaled to mean one: (K,) counts -> (K,) float64."""
    weights = 1 / _positive("class counts", counts)
    return weights / weights.mean()


def class_balanced_weights(counts: Tensor, beta: float = 0.9999) -> Tensor:
    """(1 - beta) / (1 - beta^n_k), scaled to sum to K (Cui et al. 2019): (K,) -> (K,) float64.

    beta = 0 gives equal weights; beta -> 1 gives those of the inverse frequency.
    """
    _check_range("--beta", beta, 0, 1)
    weights = 1 / (1 - beta ** _positive("class counts", counts))
    return weights / weights.mean()


def ldam_margins(counts: Tensor, max_margin: float = 0.5) -> Tensor:
    """n_k^(-1/4), scaled to `max_margin` for the rarest class (Cao et al. 2019): (K,) -> (K,)."""
    _check_range("--margin", max_margin, 0)
    margins = _positive("class counts", counts) ** -0.25
    return margins * (max_margin / margins.max())


def build_loss(
    name: str,
    counts: Tensor,
    *,
    tau: float = 1.0,
    gamma: float = 2.0,
    beta: float = 0.9999,
    margin: float = 0.5,
    scale: float = 30.0,
    drw: int | None = None,
    label_smoothing: float = 0.0,
) -> nn.Module:
    """The loss with this name, one of `names.LOSSES`.

    Args:
        counts: (K,) training samples of each class.
        tau, gamma, beta: of `logit-adjusted`, of `focal`, and of the class-balanced weights.
        margin, scale: of `ldam`; the margin is that of the rarest class.
        drw: the first epoch with class weights, counted from zero, for REWEIGHTED_LOSSES. If None,
            `weighted` and `class-balanced` use their weights from the start, and `focal` and `ldam`
            use none. Otherwise the weights of `focal` and `ldam` are class-balanced.
        label_smoothing: for SMOOTHED_LOSSES.

    UserError for a count that is not positive, an option out of range, and `drw` or
    `label_smoothing` for a loss that does not have it.
    """
    for flag, is_set, allowed in (
        ("--drw", drw is not None, REWEIGHTED_LOSSES),
        ("--label-smoothing", label_smoothing != 0, SMOOTHED_LOSSES),
    ):
        if is_set and name not in allowed:
            raise UserError(f"{flag}: not for the loss {name}; use one of {', '.join(allowed)}")
    counts = _positive("class counts", counts)
    balanced_weights = None if drw is None else class_balanced_weights(counts, beta)
    deferred, smoothing = {"reweight_from": drw or 0}, {"label_smoothing": label_smoothing}
    match name:
        case "softmax":
            return SoftmaxLoss(**smoothing)
        case "pc-softmax":
            return PCSoftmaxLoss.from_counts(counts)
        case "logit-adjusted":
            return LogitAdjustedLoss.from_counts(counts, tau=tau)
        case "focal":
            return FocalLoss(balanced_weights, gamma=gamma, **deferred)
        case "ldam":
            margins = ldam_margins(counts, margin)
            return LDAMLoss(margins, scale=scale, class_weight=balanced_weights, **deferred)
        case "weighted":
            return WeightedLoss.from_counts(counts, **smoothing, **deferred)
        case "class-balanced":
            return ClassBalancedLoss.from_counts(counts, beta=beta, **smoothing, **deferred)
    raise UserError(f"loss {name!r}: use one of {', '.join(LOSSES)}")


def logit_log_prior(loss: nn.Module, counts: Tensor, *, balanced: bool = False) -> Tensor:
    """The prior that is part of a trained network's logits.

    Under this prior, softmax(f) is the posterior of a network that was trained with the loss. A
    class weight w_k multiplies the samples of class k, and a loss that adds tau log p to f removes
    it from f. The prior is therefore proportional to p_k w_k / p_k^tau. This is exact for
    cross-entropies at their optimum. The focal term, LDAM's margins and label smoothing change the
    prior by an amount that depends on the sample, which is ignored.

    (K,) training samples of each class -> (K,) float32 log probabilities. `balanced` tells that
    training drew every class equally often.
    """
    log_prior = information.log_prior_from_counts(counts)
    result = torch.zeros_like(log_prior) if balanced else log_prior
    if isinstance(loss, PCSoftmaxLoss):
        result = result - log_prior
    elif isinstance(loss, LogitAdjustedLoss):
        result = result - loss.tau * log_prior
    elif isinstance(loss, ReweightedLoss) and loss.class_weight is not None:
        result = result + loss.class_weight.cpu().log()
    return torch.log_softmax(result, dim=0)


def _positive(what: str, values: Tensor) -> Tensor:
    values = torch.as_tensor(values).double()
    wrong = (~(values.isfinite() & (values > 0))).nonzero().flatten()[:10]
    if len(wrong):
        raise UserError(
            f"{what} {values[wrong].tolist()} of classes {wrong.tolist()}: not positive"
        )
    return values


def _check_range(name: str, value: float, low: float, below: float = math.inf) -> None:
    if not low <= value < below:
        raise UserError(f"{name} {value}: must be at least {low} and below {below}")
