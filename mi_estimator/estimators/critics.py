"""Variational bounds on I(X;Y) that share one critic: Donsker-Varadhan, NWJ, InfoNCE and SMILE.

estimate = CriticMI("mine").fit(x_train, y_train).estimate(x_test, y_test)

The critic T(x, y) is the output f_y of the classifier's network. The literature samples p(x)p(y)
by shuffling labels within a batch. With few labels the average over them is computed exactly,

    s(x) = sum_k p(k) exp f_k(x),      E_{p(x)p(y)} exp T = E_x s(x),

which has less variance and costs nothing. On one set of samples, with f and p shared, the means of
these bounds keep an order (Jensen; log a <= a - 1):

    PC-softmax  f_y - log s    >=    Donsker-Varadhan  f_y - log mean s    >=    NWJ  1 + f_y - s

Every bound is a pure function that returns one term a sample. The mean of the terms is the bound,
and their standard error is the bound's: exact for PC-softmax and NWJ, by the delta method for the
others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mi_common.errors import UserError
from mi_common.information import at_least_float32, pointwise_mutual_information, select_label
from mi_estimator.estimators.classifier import ClassifierMI


def pc_softmax_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """f_y - log s(x): the classifier's bound (Barber and Agakov 2003; Qin et al. 2019).

    A lower bound in expectation. (N, K) outputs f(x) of the critic, (N,) labels and (K,) log p(k)
    -> (N,) terms in nats.
    """
    return select_label(pointwise_mutual_information(logits, log_prior), labels)


def donsker_varadhan_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """mean f_y - log mean s (Donsker and Varadhan 1983; MINE, Belghazi et al. 2018).

    A lower bound for the expectation of s; the logarithm of a mean over N samples lifts it by
    var(s) / (2 N (E s)^2). Arguments and result are those of `pc_softmax_bound`.
    """
    logits = at_least_float32(logits)
    return _log_mean_terms(select_label(logits, labels), _log_normaliser(logits, log_prior))


def nwj_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """1 + f_y - s(x) (Nguyen, Wainwright and Jordan 2010, with T = 1 + f): a lower bound.

    Unlike the others it is moved by a constant added to the logits.
    """
    logits = at_least_float32(logits)
    return 1 + select_label(logits, labels) - _log_normaliser(logits, log_prior).exp()


def infonce_bound(logits: Tensor, labels: Tensor) -> Tensor:
    """f_y - log mean_j exp f(x)_{y_j} over the labels y_j of the batch (van den Oord et al. 2018).

    A lower bound in expectation, at most log N for the batch's N samples (Poole et al. 2019,
    eq. 10). Grouped by class, the negatives are the batch's class frequencies: InfoNCE with a
    discrete label is PC-softmax under the prior of the batch, and capped by its entropy.
    """
    counts = torch.bincount(labels, minlength=logits.shape[1])
    log_frequency = (counts.double() / len(labels)).log()  # -inf for a missing class
    return pc_softmax_bound(logits, labels, log_frequency)


def smile(logits: Tensor, labels: Tensor, log_prior: Tensor, *, tau: float = 5.0) -> Tensor:
    """mean f_y - log mean s of logits clipped to [-tau, tau] in s alone (Song and Ermon 2020).

    NOT a lower bound: a critic above tau is counted in full for the label and clipped for the
    others. With tau = inf it is the Donsker-Varadhan bound.
    """
    logits = at_least_float32(logits)
    clipped = logits.clamp(-tau, tau)
    return _log_mean_terms(select_label(logits, labels), _log_normaliser(clipped, log_prior))


def jensen_shannon_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """-softplus(-f_y) - sum_k p(k) softplus(f_k), the training objective of SMILE's critic.

    Not on the scale of I, but its optimum is the same f = log r (Nowozin et al. 2016).
    """
    logits = at_least_float32(logits)
    marginal = (log_prior.to(logits).exp() * softplus(logits)).sum(dim=1)
    return -softplus(-select_label(logits, labels)) - marginal


def _log_normaliser(logits: Tensor, log_prior: Tensor) -> Tensor:
    """(N,) log s(x)."""
    return torch.logsumexp(logits + log_prior.to(logits), dim=1)


def _log_mean(log_values: Tensor) -> Tensor:
    return torch.logsumexp(log_values, dim=0) - math.log(len(log_values))


def _log_mean_terms(joint: Tensor, log_s: Tensor) -> Tensor:
    """Terms of mean joint - log mean s; the last two are the delta method's and average to 0."""
    log_mean = _log_mean(log_s)
    return joint - log_mean + 1 - (log_s - log_mean).exp()


@dataclass(frozen=True)
class Bound:
    """A bound as an estimate and as a training objective; functions are like `pc_softmax_bound`.

    Attributes:
        terms: their mean is the estimate.
        objective: its mean is maximised in training and chooses the epoch; None for `terms`.
        by_batch: the bound depends on the batch, so it is estimated on batches of `batch_size`.
        moving_average: training replaces the batch's denominator by a moving average.
    """

    terms: Callable[..., Tensor]
    objective: Callable[..., Tensor] | None = None
    by_batch: bool = False
    moving_average: bool = False

    logits_hold_prior = False  # as in `Objective`


BOUNDS = {
    "mine": Bound(donsker_varadhan_bound, moving_average=True),
    "nwj": Bound(nwj_bound),
    "infonce": Bound(lambda logits, labels, _: infonce_bound(logits, labels), by_batch=True),
    "smile": Bound(smile, objective=jensen_shannon_bound),
}


@dataclass(eq=False, repr=False)
class CriticMI(ClassifierMI):
    """`ClassifierMI`'s network, with a critic's bound as training objective and as estimate.

    "mine" (Donsker-Varadhan), "nwj" and "infonce" are lower bounds on I(X;Y), each in the sense
    that its function states; "smile" is none. The class prior is that of the training labels. The
    interval is the normal interval of the bound's terms. It covers the bound for this critic, not
    I. Validation samples choose the epoch by the training objective, and nothing is calibrated.

    Attributes:
        objective: a name of BOUNDS.
        average_rate: weight of a new batch in MINE's moving average.
    """

    is_cross_entropy = False
    objectives = BOUNDS

    objective: str = "mine"
    average_rate: float = field(default=0.01, kw_only=True)

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "CriticMI":
        self._log_average: Tensor | None = None
        return super().train(x, y, num_classes)

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) terms of the bound.

        InfoNCE is the mean over random batches. Each has `batch_size` samples where that divides
        N, and slightly fewer where it does not, so that every sample is scored.
        """
        terms = self._terms(self._logits(self._inputs(x)).double(), y.cpu())
        if not torch.isfinite(terms).all():
            raise UserError(f"{self.objective}: the bound is not finite; use a lower --lr")
        return terms

    def _terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        bound, log_prior = BOUNDS[self.objective], self.log_prior_.cpu()
        if not bound.by_batch:
            return bound.terms(logits, labels, log_prior)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        terms = torch.empty(len(labels), dtype=logits.dtype)
        for batch in order.tensor_split(math.ceil(len(labels) / self.batch_size_)):
            terms[batch] = bound.terms(logits[batch], labels[batch], log_prior)
        return terms

    def validation_terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        if objective := BOUNDS[self.objective].objective:
            return objective(logits, labels, self.log_prior_.cpu())
        return self._terms(logits, labels)

    def _calibrate(self, x: Tensor, y: Tensor) -> None:
        """Does nothing: the literature does not calibrate critics."""

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        bound = BOUNDS[self.objective]
        if bound.moving_average:
            return self._mine_loss(at_least_float32(logits), labels)
        return -(bound.objective or bound.terms)(logits, labels, self.log_prior_).mean()

    def _mine_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the Donsker-Varadhan bound, with MINE's gradient (Belghazi et al. 2018, eq. 12).

        The gradient of log mean s is that of mean s, divided by mean s. The batch's denominator
        makes it biased, so a moving average over batches replaces it. Members of one estimator
        share this average, and so the constant of their logits.
        """
        log_mean = _log_mean(_log_normaliser(logits, self.log_prior_))
        value = log_mean.detach()
        if self._log_average is None:
            self._log_average = value
        else:
            old = self._log_average + math.log1p(-self.average_rate)
            self._log_average = torch.logaddexp(old, value + math.log(self.average_rate))
        ratio = (log_mean - self._log_average).exp()
        return value + ratio - ratio.detach() - select_label(logits, labels).mean()
