"""Losses for imbalanced classification; each can replace `nn.CrossEntropyLoss`.

    loss = PCSoftmaxLoss.from_labels(train_labels, num_classes)
    value = loss(logits, labels)  # (B, K) and (B,) -> mean loss, in nats unless weighted

In the formulas, f are the logits, y is the label, n_k is the number of training samples of class
k, and p_k is its share of the training samples, the prior.

Half-precision logits are converted to float32 first. Priors (in float64), weights and margins (in
float32) are buffers that follow the loss to a device; `.half()` and `.double()` do not change them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mi_common import information
from mi_common.errors import UserError
from pc_softmax.frequency_loss import (
    FrequencyLoss,
    Values,
    as_tensor,
    check_range,
    class_counts,
    shown,
)
from pc_softmax.names import LOSSES, REWEIGHTED_LOSSES, SMOOTHED_LOSSES
from pc_softmax.reweighted_losses import (
    ClassBalancedLoss,
    FocalLoss,
    LDAMLoss,
    ReweightedLoss,
    WeightedLoss,
    class_balanced_weights,
    ldam_margins,
)


class SoftmaxLoss(nn.CrossEntropyLoss):
    """Softmax cross-entropy, -log softmax(f)_y: the baseline."""

    def __init__(self, *, label_smoothing: float = 0.0):
        check_range("--label-smoothing", label_smoothing, 0, 1)
        super().__init__(label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(information.at_least_float32(logits), labels)


class PriorLoss(FrequencyLoss):
    """Base of the losses that correct the logits by the training prior.

    `reduction`, `ignore_index`, `label_smoothing`, and the shapes of logits and targets are those
    of `nn.CrossEntropyLoss`: (B, K), (B, K, d1, ...) or (K,) logits with int64 labels or class
    probabilities. float64 logits give a float64 loss, with the prior in float64.
    """

    def __init__(
        self,
        log_prior: Values,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ):
        """(K,) log class probabilities; UserError if one is zero or their sum is not one."""
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise UserError(f"reduction {reduction!r}: use mean, sum or none")
        check_range("--label-smoothing", label_smoothing, 0, 1)
        self.register_buffer("log_prior", _checked_log_prior(log_prior))
        self.reduction, self.ignore_index = reduction, ignore_index
        self.label_smoothing = label_smoothing

    @classmethod
    def from_counts(cls, counts: Values, **options) -> "PriorLoss":
        counts = class_counts(counts)
        return cls(information.log_prior_from_counts(counts, dtype=torch.float64), **options)

    @property
    def _options(self) -> dict:
        names = ("reduction", "ignore_index", "label_smoothing")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        prior = "" if self.log_prior.is_meta else f", prior {shown(self.log_prior.exp())}"
        return f"{len(self.log_prior)} classes{prior}, {super().extra_repr()}"


class PCSoftmaxLoss(PriorLoss):
    """Probability-corrected softmax cross-entropy: -f_y + log sum_k p_k exp f_k.

    The logits learn the pointwise mutual information, up to a constant per sample. Their argmax
    maximises the mean per-class accuracy (Qin et al. 2019). It may be negative; the formula, also
    for class probabilities and label smoothing, is in `mi_common.information.pc_softmax_loss`.

    In segmentation, the classes of pixels are imbalanced, 255 is often a pixel without a class, and

        loss = PCSoftmaxLoss.from_labels(masks, num_classes, ignore_index=255)  # (N, H, W) masks
        value = loss(logits, masks[batch])  # (B, K, H, W) and (B, H, W)
        prediction = logits.argmax(dim=1)  # serves rare classes as well as frequent ones
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return information.pc_softmax_loss(logits, labels, self.log_prior, **self._options)


class LogitAdjustedLoss(PriorLoss):
    """Cross-entropy of adjusted logits: -log softmax(f + tau log p)_y (Menon et al. 2021).

    tau = 0 is softmax. tau = 1 is balanced softmax (Ren et al. 2020): its value is that of
    PC-softmax minus log p_y, and their gradients are equal.
    """

    def __init__(self, log_prior: Values, *, tau: float = 1.0, **options):
        super().__init__(log_prior, **options)
        check_range("--tau", tau, 0)
        self.tau = tau

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        shift = self.tau * information.along_classes(self.log_prior, logits)
        return F.cross_entropy(logits + shift, labels, **self._options)


class LADELoss(LogitAdjustedLoss):
    """Balanced softmax with a regulariser of each class's logit (Hong et al. 2021).

    The loss is -log softmax(f + log p)_y + weight sum_k p_k (v_k - m_k + penalty v_k^2), where m_k
    is the mean of f_k over the samples of class k in the batch, zero if there are none, and
    v_k = log mean_i exp f_ik - log K p_k over all samples i of the batch. m_k - v_k is the
    Donsker-Varadhan bound on the divergence of p(x | k) from p(x); the penalty keeps v_k near zero.
    As in the authors' code; the defaults are theirs for CIFAR-100-LT of ratio 100.
    """

    def __init__(self, log_prior: Values, *, weight: float = 0.1, penalty: float = 0.01):
        super().__init__(log_prior)
        check_range("--lade-weight", weight, 0)
        check_range("--lade-penalty", penalty, 0)
        self.weight, self.penalty = weight, penalty

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        log_prior, num_classes = self.log_prior.to(logits), logits.shape[1]
        of_class = F.one_hot(labels, num_classes)
        own_mean = (logits * of_class).sum(dim=0) / of_class.sum(dim=0).clamp_min(1)
        log_mean = logits.logsumexp(dim=0) - math.log(len(logits)) - math.log(num_classes)
        log_mean = log_mean - log_prior
        bound = own_mean - log_mean - self.penalty * log_mean.square()
        return super().forward(logits, labels) - self.weight * (log_prior.exp() * bound).sum()


class VSLoss(LogitAdjustedLoss):
    """Vector scaling: -log softmax(d f + tau log p)_y with d_k = (n_k / max n)^gamma.

    The argmax of f, without the factors d, is the prediction (Kini et al. 2021). gamma = 0 is
    logit adjustment. The defaults are in use for CIFAR-10-LT of ratio 100; for CIFAR-100-LT
    they are 0.05 and 0.75.
    """

    def __init__(self, log_prior: Values, *, gamma: float = 0.15, tau: float = 1.25, **options):
        check_range("--vs-gamma", gamma, 0)
        check_range("--vs-tau", tau, 0)
        super().__init__(log_prior, tau=tau, **options)
        self.gamma = gamma
        self.register_buffer("factors", (gamma * (self.log_prior - self.log_prior.max())).exp())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        factors = information.along_classes(self.factors, logits)
        return super().forward(factors * logits, labels)


def _checked_log_prior(log_prior: Values) -> Tensor:
    log_prior = as_tensor("log prior", log_prior).double()
    prior = log_prior.exp()
    if torch.isfinite(log_prior).all() and abs(prior.sum().item() - 1) <= 1e-4:
        return log_prior
    if (log_prior >= 0).all():
        raise UserError(
            f"log prior {shown(log_prior)}: not logarithms of probabilities; for the number of "
            "training samples of each class use from_counts"
        )
    raise UserError(f"class prior {shown(prior)}: must be positive and sum to one")


def build_loss(
    name: str,
    counts: Tensor,
    *,
    tau: float = 1.0,
    gamma: float = 2.0,
    beta: float = 0.9999,
    margin: float = 0.5,
    scale: float = 30.0,
    lade_weight: float = 0.1,
    lade_penalty: float = 0.01,
    vs_gamma: float = 0.15,
    vs_tau: float = 1.25,
    drw: int | None = None,
    label_smoothing: float = 0.0,
) -> nn.Module:
    """The loss with this name, one of `names.LOSSES`.

    Args:
        counts: (K,) training samples of each class.
        tau, gamma, beta: of `logit-adjusted`, of `focal`, and of the class-balanced weights.
        margin, scale: of `ldam`; the margin is that of the rarest class.
        lade_weight, lade_penalty, vs_gamma, vs_tau: of `LADELoss` and `VSLoss`.
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
    counts = class_counts(counts)
    balanced_weights = None if drw is None else class_balanced_weights(counts, beta)
    deferred, smoothing = {"reweight_from": drw or 0}, {"label_smoothing": label_smoothing}
    match name:
        case "softmax":
            return SoftmaxLoss(**smoothing)
        case "pc-softmax":
            return PCSoftmaxLoss.from_counts(counts, **smoothing)
        case "logit-adjusted":
            return LogitAdjustedLoss.from_counts(counts, tau=tau)
        case "lade":
            return LADELoss.from_counts(counts, weight=lade_weight, penalty=lade_penalty)
        case "vs":
            return VSLoss.from_counts(counts, gamma=vs_gamma, tau=vs_tau)
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
    cross-entropies at their optimum, and for `LADELoss` but for its penalty. For `VSLoss` it is
    the prior of d f. Its factors d, the focal term, LDAM's margins and label smoothing change the
    prior of f by an amount that depends on the sample, which is ignored.

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
