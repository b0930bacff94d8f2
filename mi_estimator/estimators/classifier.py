"""Mutual information from a classifier: train it, then average log ratios of test samples.

estimator = ClassifierMI("pc-softmax", seed=0).fit(x_train, y_train)
estimate = estimator.estimate(x_test, y_test)
print(estimate.value, estimate.lower, estimate.upper)
"""

import copy
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
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
from mi_estimator.estimators.base import LogRatioEstimator, far_origin, shifted
from mi_estimator.estimators.networks import Members, Standardise, mlp, small_cnn
from mi_estimator.estimators.registry import Settings


@dataclass(frozen=True)
class Objective:
    """A training loss, and how its logits are read as log ratios.

    Attributes:
        loss: mean loss of (B, K) logits and (B,) labels under a (K,) log prior.
        logits_hold_prior: the optimal logits are log p(y | x); the log prior must be subtracted.
        entropy_is_log_k: the estimate takes log K for H(Y), which is wrong for imbalanced classes.
    """

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    logits_hold_prior: bool = False
    entropy_is_log_k: bool = False


def _cross_entropy(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


OBJECTIVES = {
    "softmax": Objective(_cross_entropy, logits_hold_prior=True),
    "pc-softmax": Objective(pc_softmax_loss),
    "softmax-log-k": Objective(_cross_entropy, logits_hold_prior=True, entropy_is_log_k=True),
}


@dataclass(eq=False, repr=False)
class ClassifierMI(LogRatioEstimator):
    """A ReLU network as estimator of I(X;Y), trained by softmax or PC-softmax cross-entropy.

    Both objectives reach the same class of density ratios and have the same optimum. Subtracting
    the log class prior turns softmax logits into log ratios; the estimate is then H(Y) minus the
    cross-entropy. The paper's original code subtracts the cross-entropy from log K instead. That
    flawed estimate is `softmax-log-k`, kept to show its error.

    Features (N, d) go through a multilayer perceptron, images (N, C, H, W) through a small
    convolutional network.

    Attributes:
        objective: a name of OBJECTIVES.
        runtime: where the network runs; by default a GPU if there is one, in fp32.
        hidden: widths of the hidden layers of the perceptron.
        members: number of networks, which differ in their initial weights; their logits are
            averaged. Like `epochs` and `batch_size`, None stands for that of `Settings.for_size`.
        lr: peak of the one-cycle schedule of AdamW.
        val_fraction: share of the samples given to `fit` that is a validation set. It chooses the
            epoch, ends training when later epochs are clearly worse, and calibrates the logits.
            With 0, the last epoch is used without calibration.
        bias_sd: of the calibration, see `fit_calibration`.
    """

    takes_images = True
    is_cross_entropy = True
    objectives = OBJECTIVES

    objective: str = "pc-softmax"
    _: KW_ONLY
    runtime: Runtime | None = None
    seed: int = 0
    hidden: tuple[int, ...] = Settings.hidden
    members: int | None = Settings.members
    epochs: int | None = Settings.epochs
    batch_size: int | None = Settings.batch_size
    lr: float = Settings.lr
    weight_decay: float = Settings.weight_decay
    val_fraction: float = Settings.val_fraction
    bias_sd: float = Settings.bias_sd

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "ClassifierMI":
        if self.objective not in self.objectives:
            names = ", ".join(self.objectives)
            raise UserError(f"objective {self.objective!r}: use one of {names}")
        self._origin = far_origin(x)
        x = self._inputs(x)
        train, validation = validation_split(y.cpu(), self.val_fraction, self.seed)
        size = Settings(self.epochs, self.batch_size, members=self.members).for_size(len(train))
        self.batch_size_ = size.batch_size
        self.runtime_ = self.runtime or default_runtime()
        device = self.runtime_.device
        self.log_prior_ = log_prior_from_labels(y, num_classes).to(device)
        self.scale_, self.bias_ = torch.ones(()), torch.zeros(num_classes)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            build = small_cnn if x.ndim == 4 else partial(mlp, hidden=self.hidden)
            members = Members(build(x.shape[1], num_classes) for _ in range(size.members))
        self.network_ = nn.Sequential(Standardise(x), members).to(device)
        x_val, y_val = x[validation], y[validation].cpu()
        best = _BestEpoch(self, x_val, y_val) if len(validation) else None
        batches = TensorBatches(
            x[train], y[train], batch_size=size.batch_size, seed=self.seed, runtime=self.runtime_
        )
        optimizer = torch.optim.AdamW(
            self.network_.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=size.epochs * len(batches)
        )
        with one_thread() if x.ndim == 2 else nullcontext():
            self.history_ = fit(
                self.network_,
                batches,
                lambda logits, labels: self._loss(logits, labels.repeat(size.members)),
                optimizer,
                epochs=size.epochs,
                runtime=self.runtime_,
                scheduler=scheduler,
                after_epoch=best,
                description="estimator" if sys.stderr.isatty() else None,
            )
        if best is not None:
            self.network_.load_state_dict(best.state)
            self._calibrate(x_val, y_val)
        return self

    def log_ratio(self, x: Tensor) -> Tensor:
        """N samples -> (N, K) log p(x, k) / (p(x) p(k)) in nats, on the CPU."""
        logits = self.scale_ * self._logits(self._inputs(torch.as_tensor(x))) + self.bias_
        return pointwise_mutual_information(logits, self.log_prior_.cpu())

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        terms = super().terms(x, y)
        if OBJECTIVES[self.objective].entropy_is_log_k:
            terms = terms + self.log_prior_.cpu()[y.cpu()] + math.log(len(self.log_prior_))
        return terms

    def _inputs(self, x: Tensor) -> Tensor:
        """float32; images may stay uint8, which the first layer scales."""
        if x.dtype == torch.uint8:
            return x
        return shifted(x, self._origin).float()

    def _logits(self, x: Tensor) -> Tensor:
        """(N, K) logits of PC-softmax before calibration, on the CPU."""
        # Large images in large batches would take gigabytes.
        batch_size = max(1, min(10_000, 10**7 // math.prod(x.shape[1:])))
        logits = predict(self.network_, x, runtime=self.runtime_, batch_size=batch_size)
        if self.objectives[self.objective].logits_hold_prior:
            return logits_from_softmax(logits, self.log_prior_.cpu())
        return logits

    def _calibrate(self, x: Tensor, y: Tensor) -> None:
        arrays = self._logits(x), y, self.log_prior_.cpu()
        self.scale_, self.bias_ = fit_calibration(*arrays, bias_sd=self.bias_sd)

    def validation_terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N,) validation scores of the samples, from `_logits`; their mean chooses the epoch."""
        return select_label(pointwise_mutual_information(logits, self.log_prior_.cpu()), labels)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return OBJECTIVES[self.objective].loss(logits, labels, self.log_prior_)


class _BestEpoch:
    """Keeps the weights of the best validation epoch.

    It asks to stop after three epochs in a row that are worse by more than three standard errors
    of the paired difference. A plateau, such as the one before a parity is learned, is not worse.
    """

    def __init__(self, estimator: ClassifierMI, x: Tensor, y: Tensor):
        self.estimator, self.x, self.y = estimator, x, y
        self.terms, self.state, self.worse = None, None, 0

    def __call__(self) -> bool:
        terms = self.estimator.validation_terms(self.estimator._logits(self.x), self.y).double()
        if self.terms is None or terms.mean() > self.terms.mean():
            self.terms, self.worse = terms, 0
            self.state = copy.deepcopy(self.estimator.network_.state_dict())
            return False
        loss = self.terms - terms
        is_worse = loss.mean() > 3 * loss.std() / len(loss) ** 0.5
        self.worse = self.worse + 1 if is_worse else 0
        return self.worse == 3


def validation_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of the training and of the validation samples, in order.

    The validation set takes a random `fraction` of each class, rounded down, but one sample at
    least of a class of three or more. scikit-learn's stratified splits round and draw differently.
    UserError for a fraction that is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UserError(f"val_fraction {fraction}: use a number from 0 to below 1")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    validation_counts = (fraction * counts).long()
    if fraction > 0:
        validation_counts = validation_counts.clamp_min((counts >= 3).long())
    rank = torch.arange(len(labels)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    in_training = rank >= torch.repeat_interleave(validation_counts, counts)
    return by_class[in_training].sort().values, by_class[~in_training].sort().values
