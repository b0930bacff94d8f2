"""Mutual information from a classifier: train it, then average its held-out pointwise values.

estimator = ClassifierMI("pc-softmax", seed=0).fit(x_train, y_train)
estimate = estimator.estimate(x_test, y_test)
print(estimate.value, estimate.lower, estimate.upper)
"""

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from mi_common.calibration import fit_calibration
from mi_common.engine import TensorBatches, fit, predict
from mi_common.errors import UserError
from mi_common.information import (
    log_prior_from_labels,
    logits_from_softmax,
    pc_softmax_loss,
    pointwise_mutual_information,
    select_label,
)
from mi_common.runtime import Runtime, default_runtime, one_thread
from mi_estimator.estimators.networks import Members, Standardise, mlp, small_cnn

QUANTILE = 1.959964  # of the standard normal, two-sided 95 %
OBJECTIVES = ("softmax", "pc-softmax", "softmax-log-k")


@dataclass(frozen=True)
class MIEstimate:
    """A held-out estimate of I(X;Y) in nats.

    Attributes:
        value: mean pointwise mutual information, a lower bound on I(X;Y) in expectation.
        lower, upper: normal 95 % interval of what the trained network would score on endless
            samples. That is the bound, not I itself. Of a cross-fit it is that of its folds'
            networks on average (Bayle et al. 2020, arXiv 2007.12671).
        pointwise: (N,) float64 pointwise mutual information of each sample.
    """

    value: float
    lower: float
    upper: float
    pointwise: Tensor

    @classmethod
    def from_pointwise(cls, pointwise: Tensor) -> "MIEstimate":
        """The mean of samples as they come."""
        pointwise = pointwise.double().cpu()
        standard_error = pointwise.std().item() / len(pointwise) ** 0.5
        return cls._normal(pointwise.mean().item(), standard_error, pointwise)

    @classmethod
    def under_prior(cls, pointwise: Tensor, labels: Tensor, log_prior: Tensor) -> "MIEstimate":
        """The mean of each class, weighted by a (K,) prior that is known; no class is random."""
        pointwise, counts = pointwise.double().cpu(), torch.bincount(labels)
        weights = (log_prior.exp() / counts)[labels]
        means = torch.zeros_like(log_prior).index_add_(0, labels, pointwise) / counts
        squares = weights.square() * (pointwise - means[labels]).square()
        variance = (squares * (counts / (counts - 1))[labels]).sum().item()
        return cls._normal((weights * pointwise).sum().item(), variance**0.5, pointwise)

    @classmethod
    def _normal(cls, mean: float, standard_error: float, pointwise: Tensor) -> "MIEstimate":
        half_width = QUANTILE * standard_error
        return cls(mean, mean - half_width, mean + half_width, pointwise)

    @property
    def standard_error(self) -> float:
        return (self.upper - self.lower) / (2 * QUANTILE)

    def with_standard_error(self, standard_error: float) -> "MIEstimate":
        return self._normal(self.value, standard_error, self.pointwise)


def as_features(x) -> Tensor:
    """Features as float32, images as float32 or uint8, from a tensor or an array."""
    x = torch.as_tensor(x)
    return x if x.dtype == torch.uint8 else x.float()


def as_samples(x, y) -> tuple[Tensor, Tensor]:
    """Features as float32 (images may be uint8) and labels as int64, from tensors or arrays.

    Raises:
        UserError: lengths that differ, or labels that are not whole numbers.
    """
    x, y = as_features(x), torch.as_tensor(y)
    if len(x) != len(y):
        raise UserError(f"{len(x)} samples but {len(y)} labels")
    if y.is_floating_point() and len(y):
        raise UserError(f"labels of type {y.dtype}: they must be whole numbers 0..K-1")
    return x, y.long()


class ClassifierMI(BaseEstimator):
    """A ReLU network as estimator of I(X;Y), trained by softmax or PC-softmax cross-entropy.

    Both objectives reach the same class of density ratios and have the same optimum. Softmax
    logits are turned into log ratios by subtracting the log class prior, that is, its cross-
    entropy is taken from H(Y) and not, as in the paper's original code, from log K. That flawed
    reading is `softmax-log-k`, kept to show by how much it is off.

    Features (N, d) go through a multilayer perceptron, images (N, C, H, W) through a small
    convolutional network.
    """

    def __init__(
        self,
        objective: str = "pc-softmax",
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
    ):
        """
        Args:
            objective: "pc-softmax", "softmax" or "softmax-log-k".
            runtime: where the network runs; by default a GPU if there is one, in fp32.
            hidden: widths of the hidden layers.
            members: networks that differ in their first weights, and whose logits are averaged.
            lr: peak of the one-cycle schedule of AdamW.
            held_back: share of the samples given to `fit` that the network does not train on;
                they choose the epoch that counts, end training when later ones are clearly
                worse, and calibrate the logits. With 0, the last epoch counts as it is.

        Raises:
            UserError: an unknown objective.
        """
        self.objective, self.runtime, self.seed = objective, runtime, seed
        self.hidden, self.members, self.epochs = hidden, members, epochs
        self.batch_size, self.lr, self.weight_decay = batch_size, lr, weight_decay
        self.held_back = held_back
        self._check_names()

    def _check_names(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UserError(f"objective {self.objective!r}: use one of {', '.join(OBJECTIVES)}")

    def fit(self, x: Tensor, y: Tensor, *, num_classes: int | None = None) -> "ClassifierMI":
        """Trains on (N, d) features or (N, C, H, W) images and (N,) labels 0..K-1.

        Raises:
            UserError: lengths that differ, a class without samples, a diverging loss.
        """
        self._check_names()
        x, y = as_samples(x, y)
        if x.ndim not in (2, 4):
            raise UserError(f"features of shape {tuple(x.shape)}: they must be (samples, features)")
        if num_classes is None:
            num_classes = int(y.max()) + 1 if len(y) else 1
        self.runtime_ = self.runtime or default_runtime()
        device = self.runtime_.device
        self.log_prior = log_prior_from_labels(y, num_classes).to(device)
        self.scale, self.bias = torch.ones(()), torch.zeros(num_classes)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            members = Members(self._member(x, num_classes) for _ in range(self.members))
        self.network = nn.Sequential(Standardise(x), members).to(device)
        train, back = hold_back(y.cpu(), self.held_back, self.seed)
        best = _BestEpoch(self, x[back], y[back].cpu()) if len(back) else None
        batches = TensorBatches(
            x[train], y[train], batch_size=self.batch_size, seed=self.seed, runtime=self.runtime_
        )
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=self.epochs * len(batches)
        )
        with one_thread() if x.ndim == 2 else nullcontext():
            self.history = fit(
                self.network,
                batches,
                lambda logits, labels: self._loss(logits, labels.repeat(self.members)),
                optimizer,
                epochs=self.epochs,
                runtime=self.runtime_,
                scheduler=scheduler,
                after_epoch=best,
                description="estimator",
            )
        if best is not None:
            self.network.load_state_dict(best.state)
            self._calibrate(x[back], y[back].cpu())
        return self

    def pointwise_mutual_information(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) estimates of log p(x, k) / (p(x) p(k)) in nats, on the CPU."""
        logits = self.scale * self._logits(as_features(x)) + self.bias
        return pointwise_mutual_information(logits, self.log_prior.cpu())

    def estimate(self, x: Tensor, y: Tensor) -> MIEstimate:
        """The estimate on samples that `fit` has not seen.

        Raises:
            UserError: lengths that differ, or a label that `fit` has not seen.
        """
        x, y = as_samples(x, y)
        num_classes = len(self.log_prior)
        if y.min() < 0 or y.max() >= num_classes:
            raise UserError(f"labels {y.min()} to {y.max()}: they must be in 0..{num_classes - 1}")
        pointwise = select_label(self.pointwise_mutual_information(x), y.cpu())
        if self.objective == "softmax-log-k":
            pointwise = pointwise + self.log_prior.cpu()[y.cpu()] + math.log(num_classes)
        return MIEstimate.from_pointwise(pointwise)

    def _member(self, x: Tensor, num_classes: int) -> nn.Module:
        if x.ndim == 4:
            return small_cnn(x.shape[1], num_classes)
        return mlp(x.shape[1], num_classes, self.hidden)

    def _logits(self, x: Tensor) -> Tensor:
        """(N, K) logits of PC-softmax before calibration, on the CPU."""
        logits = predict(self.network, x, runtime=self.runtime_, batch_size=10_000)
        if self.objective in ("softmax", "softmax-log-k"):
            return logits_from_softmax(logits, self.log_prior.cpu())
        return logits

    def _calibrate(self, x: Tensor, y: Tensor) -> None:
        self.scale, self.bias = fit_calibration(self._logits(x), y, self.log_prior.cpu())

    def _held_back_terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N,) what the chosen epoch is to have most of, from `_logits`."""
        return select_label(pointwise_mutual_information(logits, self.log_prior.cpu()), labels)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.objective == "pc-softmax":
            return pc_softmax_loss(logits, labels, self.log_prior)
        return nn.functional.cross_entropy(logits, labels)


class _BestEpoch:
    """Keeps the weights of the epoch that held-back samples speak for.

    It asks to stop after three epochs in a row that are worse by more than three standard errors
    of the paired difference; a plateau, as before a parity is learned, is not worse.
    """

    def __init__(self, estimator: ClassifierMI, x: Tensor, y: Tensor):
        self.estimator, self.x, self.y = estimator, x, y
        self.terms, self.state, self.worse = None, None, 0

    def __call__(self) -> bool:
        terms = self.estimator._held_back_terms(self.estimator._logits(self.x), self.y).double()
        if self.terms is None or terms.mean() > self.terms.mean():
            self.terms, self.worse = terms, 0
            self.state = copy.deepcopy(self.estimator.network.state_dict())
            return False
        loss = self.terms - terms
        worse = loss.mean() > 3 * loss.std() / len(loss) ** 0.5
        self.worse = self.worse + 1 if worse else 0
        return self.worse == 3


def hold_back(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions to train on and to hold back: `share` of each class, rounded down, at random."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    rank = torch.arange(len(labels)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    kept = rank >= torch.repeat_interleave((share * counts).long(), counts)
    return by_class[kept].sort().values, by_class[~kept].sort().values
