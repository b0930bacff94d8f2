"""Variational bounds on I(X;Y) that share one critic: Donsker-Varadhan, NWJ, InfoNCE and SMILE.

estimate = CriticMI("mine", runtime=runtime).fit(x_train, y_train).estimate(x_test, y_test)

The critic T(x, y) is the output f_y of the classifier's network. The literature samples p(x)p(y)
by shuffling labels within a batch; with few labels their average is exact,

    s(x) = sum_k p(k) exp f_k(x),      E_{p(x)p(y)} exp T = E_x s(x),

at less variance and no cost, and so it is done here. On any one set of samples, with f and p
shared, the means of these bounds keep an order (Jensen; log a <= a - 1):

    PC-softmax  f_y - log s    >=    Donsker-Varadhan  f_y - log mean s    >=    NWJ  1 + f_y - s

Every bound is a pure function that returns one term a sample. Their mean is the bound, their
standard error is its own: exact for PC-softmax and NWJ, by the delta method for the others.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from common.engine import predict
from common.errors import UserError
from common.information import pointwise_mutual_information, select_label
from common.runtime import Runtime
from mi_estimator.estimators import ClassifierMI, MIEstimate
from mi_estimator.neighbours import check_samples

BOUNDS = ("mine", "nwj", "infonce", "smile")


def pc_softmax_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """f_y - log s(x): the classifier's bound (Barber and Agakov 2003; Qin et al. 2019).

    A lower bound in expectation.

    Args:
        logits: (N, K) outputs f(x) of the critic.
        labels: (N,) int64 in 0..K-1.
        log_prior: (K,) log p(k).

    Returns:
        (N,) terms in nats.
    """
    return select_label(pointwise_mutual_information(logits, log_prior), labels)


def donsker_varadhan_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """mean f_y - log mean s (Donsker and Varadhan 1983; MINE, Belghazi et al. 2018).

    A lower bound for the expectation of s; the logarithm of a mean over N samples lifts it by
    var(s) / (2 N (E s)^2). Arguments and result are those of `pc_softmax_bound`.
    """
    logits = _raised(logits)
    return _log_mean_terms(select_label(logits, labels), _log_normaliser(logits, log_prior))


def nwj_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """1 + f_y - s(x) (Nguyen, Wainwright and Jordan 2010, with T = 1 + f): a lower bound.

    Unlike the others it is moved by a constant added to the logits.
    """
    logits = _raised(logits)
    return 1 + select_label(logits, labels) - _log_normaliser(logits, log_prior).exp()


def infonce_bound(logits: Tensor, labels: Tensor) -> Tensor:
    """f_y - log mean_j exp f(x)_{y_j} over the labels y_j of the batch (van den Oord et al. 2018).

    A lower bound in expectation, at most log N for the batch's N samples (Poole et al. 2019,
    eq. 10). Grouped by class, the negatives are the batch's class frequencies: InfoNCE with a
    discrete label is PC-softmax under the prior of the batch, and capped by its entropy.
    """
    counts = torch.bincount(labels, minlength=logits.shape[1])
    log_frequency = (counts.double() / len(labels)).log()  # -inf for a class that is not there
    return pc_softmax_bound(logits, labels, log_frequency)


def smile(logits: Tensor, labels: Tensor, log_prior: Tensor, *, tau: float = 5.0) -> Tensor:
    """mean f_y - log mean s of logits clipped to [-tau, tau] in s alone (Song and Ermon 2020).

    NOT a lower bound: a critic above tau is counted in full for the label and clipped for the
    others. With tau = inf it is the Donsker-Varadhan bound.
    """
    logits = _raised(logits)
    clipped = logits.clamp(-tau, tau)
    return _log_mean_terms(select_label(logits, labels), _log_normaliser(clipped, log_prior))


def jensen_shannon_bound(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """-softplus(-f_y) - sum_k p(k) softplus(f_k), what SMILE's critic maximises.

    Not on the scale of I, but its optimum is the same f = log r (Nowozin et al. 2016).
    """
    logits = _raised(logits)
    marginal = (log_prior.to(logits).exp() * softplus(logits)).sum(dim=1)
    return -softplus(-select_label(logits, labels)) - marginal


def _raised(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _log_normaliser(logits: Tensor, log_prior: Tensor) -> Tensor:
    """(N,) log s(x)."""
    return torch.logsumexp(logits + log_prior.to(logits), dim=1)


def _log_mean(log_values: Tensor) -> Tensor:
    return torch.logsumexp(log_values, dim=0) - math.log(len(log_values))


def _log_mean_terms(joint: Tensor, log_s: Tensor) -> Tensor:
    """Terms of mean joint - log mean s; the last two are the delta method's and average to 0."""
    log_mean = _log_mean(log_s)
    return joint - log_mean + 1 - (log_s - log_mean).exp()


class CriticMI(ClassifierMI):
    """`ClassifierMI`'s network and training with a critic's bound as objective and as estimate.

    "mine" (Donsker-Varadhan), "nwj" and "infonce" are lower bounds on I(X;Y), as said at each
    function; "smile" is none. The class prior is that of the training labels. The interval is the
    normal one of the bound's terms, and covers the bound for this critic, not I.
    """

    def __init__(
        self,
        bound: str = "mine",
        *,
        runtime: Runtime,
        seed: int = 0,
        tau: float = 5.0,
        average_rate: float = 0.01,
        **network,
    ):
        """
        Args:
            bound: "mine", "nwj", "infonce" or "smile".
            tau: SMILE's clip.
            average_rate: weight of a new batch in MINE's moving average.
            network: `hidden`, `epochs`, `batch_size`, `lr`, `weight_decay` as in `ClassifierMI`;
                `batch_size` is also the number of samples of InfoNCE on held-out data.

        Raises:
            UserError: an unknown bound.
        """
        if bound not in BOUNDS:
            raise UserError(f"bound {bound!r}: use one of {', '.join(BOUNDS)}")
        super().__init__(runtime=runtime, seed=seed, **network)
        self.objective = bound
        self.tau, self.average_rate = tau, average_rate

    def fit(self, x: Tensor, y: Tensor, *, num_classes: int | None = None) -> "CriticMI":
        """Trains as `ClassifierMI.fit` does."""
        self._log_average: Tensor | None = None
        return super().fit(x, y, num_classes=num_classes)

    def estimate(self, x: Tensor, y: Tensor) -> MIEstimate:
        """The bound on samples that `fit` has not seen; `pointwise` holds its terms.

        InfoNCE is the mean over random batches, of `batch_size` where it divides N and slightly
        less where it does not, so that every sample is scored.

        Raises:
            UserError: shapes, labels or numbers that cannot be used.
        """
        check_samples(x, y, len(self.log_prior))
        inputs = self._standardise(x)
        logits = predict(self.network, inputs, runtime=self.runtime, batch_size=100_000).double()
        labels, log_prior = y.cpu(), self.log_prior.cpu()
        if self.objective == "infonce":
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))
            terms = torch.empty(len(y), dtype=torch.float64)
            for batch in order.tensor_split(math.ceil(len(y) / self.batch_size)):
                terms[batch] = infonce_bound(logits[batch], labels[batch])
        elif self.objective == "smile":
            terms = smile(logits, labels, log_prior, tau=self.tau)
        elif self.objective == "nwj":
            terms = nwj_bound(logits, labels, log_prior)
        else:
            terms = donsker_varadhan_bound(logits, labels, log_prior)
        if not torch.isfinite(terms).all():
            raise UserError(f"{self.objective}: the bound is not finite; use a lower --lr")
        return MIEstimate.from_pointwise(terms)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.objective == "infonce":
            return -infonce_bound(logits, labels).mean()
        if self.objective == "smile":
            return -jensen_shannon_bound(logits, labels, self.log_prior).mean()
        if self.objective == "nwj":
            return -nwj_bound(logits, labels, self.log_prior).mean()
        return self._mine_loss(_raised(logits), labels)

    def _mine_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the Donsker-Varadhan bound, with MINE's gradient (Belghazi et al. 2018, eq. 12).

        The gradient of log mean s is that of mean s over mean s, biased by the batch's own
        denominator; a moving average over batches stands in its place.
        """
        log_mean = _log_mean(_log_normaliser(logits, self.log_prior))
        value = log_mean.detach()
        if self._log_average is None:
            self._log_average = value
        else:
            rate = self.average_rate
            old = self._log_average + math.log1p(-rate)
            self._log_average = torch.logaddexp(old, value + math.log(rate))
        ratio = (log_mean - self._log_average).exp()
        return value + ratio - ratio.detach() - select_label(logits, labels).mean()
