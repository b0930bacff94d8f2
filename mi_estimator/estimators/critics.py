"""Variational bounds on I(X;Y) that share one critic: Donsker-Varadhan, NWJ, InfoNCE and SMILE.

estimate = CriticMI("mine").fit(x_train, y_train).estimate(x_test, y_test)

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

from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information, select_label
from mi_common.runtime import Runtime
from mi_estimator.estimators.classifier import ClassifierMI, MIEstimate, as_samples
from mi_estimator.estimators.neighbours import check_samples

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
        runtime: Runtime | None = None,
        seed: int = 0,
        hidden: tuple[int, ...] = (100, 100, 100),
        members: int = 1,
        epochs: int = 20,
        batch_size: int = 1000,
        lr: float = 5e-3,
        weight_decay: float = 1e-4,
        held_back: float = 0.0,
        tau: float = 5.0,
        average_rate: float = 0.01,
    ):
        """
        Args:
            bound: "mine", "nwj", "infonce" or "smile".
            runtime ... held_back: as in `ClassifierMI`. `batch_size` is also the number of samples
                of InfoNCE on held-out data; held-back samples choose the epoch, by the bound
                (SMILE: by the bound that its critic maximises), and nothing is calibrated.
            tau: SMILE's clip.
            average_rate: weight of a new batch in MINE's moving average.

        Raises:
            UserError: an unknown bound.
        """
        self.bound, self.tau, self.average_rate = bound, tau, average_rate
        super().__init__(
            runtime=runtime,
            seed=seed,
            hidden=hidden,
            members=members,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            held_back=held_back,
        )

    def _check_names(self) -> None:
        if self.bound not in BOUNDS:
            raise UserError(f"bound {self.bound!r}: use one of {', '.join(BOUNDS)}")

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
        x, y = as_samples(x, y)
        check_samples(x.flatten(1) if x.ndim > 2 else x, y, len(self.log_prior))
        terms = self._terms(self._logits(x).double(), y.cpu())
        if not torch.isfinite(terms).all():
            raise UserError(f"{self.bound}: the bound is not finite; use a lower --lr")
        return MIEstimate.from_pointwise(terms)

    def _terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_prior = self.log_prior.cpu()
        if self.bound == "infonce":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
            terms = torch.empty(len(labels), dtype=logits.dtype)
            for batch in order.tensor_split(math.ceil(len(labels) / self.batch_size)):
                terms[batch] = infonce_bound(logits[batch], labels[batch])
            return terms
        if self.bound == "smile":
            return smile(logits, labels, log_prior, tau=self.tau)
        if self.bound == "nwj":
            return nwj_bound(logits, labels, log_prior)
        return donsker_varadhan_bound(logits, labels, log_prior)

    def _held_back_terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.bound == "smile":
            return jensen_shannon_bound(logits, labels, self.log_prior.cpu())
        return self._terms(logits, labels)

    def _calibrate(self, x: Tensor, y: Tensor) -> None:
        """Nothing: the literature's critics are taken as they were trained."""

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.bound == "infonce":
            return -infonce_bound(logits, labels).mean()
        if self.bound == "smile":
            return -jensen_shannon_bound(logits, labels, self.log_prior).mean()
        if self.bound == "nwj":
            return -nwj_bound(logits, labels, self.log_prior).mean()
        return self._mine_loss(_raised(logits), labels)

    def _mine_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the Donsker-Varadhan bound, with MINE's gradient (Belghazi et al. 2018, eq. 12).

        The gradient of log mean s is that of mean s over mean s, biased by the batch's own
        denominator; a moving average over batches stands in its place. Members of one estimator
        share the mean, and so the height of their logits.
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
