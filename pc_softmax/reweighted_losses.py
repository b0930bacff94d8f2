"""Losses with class weights or margins from the class frequencies, and their weights.

Notation and precision are those of `pc_softmax.losses`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mi_common import information
from pc_softmax.frequency_loss import FrequencyLoss, Values, check_range, class_counts, positive


class ReweightedLoss(FrequencyLoss):
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
        check_range("--drw", reweight_from, 0)
        if class_weight is not None:
            class_weight = positive("class weights", class_weight).float()
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
        check_range("--label-smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_counts(cls, counts: Values, **options) -> "WeightedLoss":
        return cls(inverse_frequency_weights(counts), **options)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        weight = self._weight(logits)
        return F.cross_entropy(logits, labels, weight, label_smoothing=self.label_smoothing)


class ClassBalancedLoss(WeightedLoss):
    """`WeightedLoss` with the weights of Cui et al. (2019), see `class_balanced_weights`."""

    @classmethod
    def from_counts(cls, counts: Values, *, beta: float = 0.9999, **options) -> "ClassBalancedLoss":
        return cls(class_balanced_weights(counts, beta), **options)


class FocalLoss(ReweightedLoss):
    """-w_y (1 - q_y)^gamma log q_y with q = softmax(f) (Lin et al. 2017, where w is alpha).

    gamma = 0 is softmax. `from_counts` sets class-balanced weights (Cui et al. 2019).
    """

    def __init__(self, class_weight: Tensor | None = None, *, gamma: float = 2.0, **deferred):
        super().__init__(class_weight, **deferred)
        check_range("--gamma", gamma, 0)
        self.gamma = gamma

    @classmethod
    def from_counts(cls, counts: Values, *, beta: float = 0.9999, **options) -> "FocalLoss":
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
        check_range("--scale", scale, 0)
        self.scale = scale
        self.register_buffer("margins", margins.float())

    @classmethod
    def from_counts(cls, counts: Values, *, max_margin: float = 0.5, **options) -> "LDAMLoss":
        return cls(ldam_margins(counts, max_margin), **options)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = information.at_least_float32(logits)
        margins = F.one_hot(labels, logits.shape[1]) * self.margins.to(logits)
        return F.cross_entropy(self.scale * (logits - margins), labels, self._weight(logits))


def inverse_frequency_weights(counts: Values) -> Tensor:
    """1 / n_k, scaled to mean one: (K,) counts -> (K,) float64."""
    weights = 1 / class_counts(counts)
    return weights / weights.mean()


def class_balanced_weights(counts: Values, beta: float = 0.9999) -> Tensor:
    """(1 - beta) / (1 - beta^n_k), scaled to sum to K (Cui et al. 2019): (K,) -> (K,) float64.

    beta = 0 gives equal weights; beta -> 1 gives those of the inverse frequency.
    """
    check_range("--beta", beta, 0, 1)
    weights = 1 / (1 - beta ** class_counts(counts))
    return weights / weights.mean()


def ldam_margins(counts: Values, max_margin: float = 0.5) -> Tensor:
    """n_k^(-1/4), scaled to `max_margin` for the rarest class (Cao et al. 2019): (K,) -> (K,)."""
    check_range("--margin", max_margin, 0)
    margins = class_counts(counts) ** -0.25
    return margins * (max_margin / margins.max())
