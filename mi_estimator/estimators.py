"""Mutual information from a classifier: train it, then average its held-out pointwise values.

estimator = ClassifierMI("pc-softmax", runtime=runtime, seed=0).fit(x_train, y_train)
estimate = estimator.estimate(x_test, y_test)
print(estimate.value, estimate.lower, estimate.upper)
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.engine import TensorBatches, fit, predict
from common.errors import UserError
from common.information import (
    log_prior_from_labels,
    logits_from_softmax,
    pc_softmax_loss,
    pointwise_mutual_information,
    select_label,
)
from common.runtime import Runtime
from mi_estimator.calibration import fit_calibration

OBJECTIVES = ("softmax", "pc-softmax", "softmax-log-k")


@dataclass(frozen=True)
class MIEstimate:
    """A held-out estimate of I(X;Y) in nats.

    Attributes:
        value: mean pointwise mutual information, a lower bound on I(X;Y) in expectation.
        lower, upper: normal 95 % interval of that mean. It covers the bound, not I itself.
        pointwise: (N,) float64 pointwise mutual information of each sample.
    """

    value: float
    lower: float
    upper: float
    pointwise: Tensor

    @classmethod
    def from_pointwise(cls, pointwise: Tensor) -> "MIEstimate":
        pointwise = pointwise.double().cpu()
        mean = pointwise.mean().item()
        half_width = 1.959964 * pointwise.std().item() / len(pointwise) ** 0.5
        return cls(mean, mean - half_width, mean + half_width, pointwise)


def as_samples(x, y) -> tuple[Tensor, Tensor]:
    """Features as float32 and labels as int64 tensors, from tensors or arrays.

    Raises:
        UserError: labels that are not whole numbers.
    """
    x, y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    if y.is_floating_point() and len(y):
        raise UserError(f"labels of type {y.dtype}: they must be whole numbers 0..K-1")
    return x, y.long()


def mlp(num_features: int, num_classes: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """(N, num_features) -> (N, num_classes) logits through ReLU layers of the given widths."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(num_features, width), nn.ReLU()]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


def small_cnn(channels: int, num_classes: int) -> nn.Sequential:
    """(N, channels, H, W) images -> (N, num_classes) logits, three halvings and a global mean."""
    layers: list[nn.Module] = []
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    pooled = [nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * channels, num_classes)]
    return nn.Sequential(*layers, *pooled)


class ClassifierMI:
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
        runtime: Runtime,
        seed: int = 0,
        hidden: tuple[int, ...] = (100, 100, 100),
        epochs: int = 20,
        batch_size: int = 1000,
        lr: float = 5e-3,
        weight_decay: float = 1e-4,
        held_back: float = 0.0,
    ):
        """
        Args:
            objective: "pc-softmax", "softmax" or "softmax-log-k".
            hidden: widths of the hidden layers.
            lr: peak of the one-cycle schedule of AdamW.
            held_back: share of the samples given to `fit` that the network does not train on;
                they choose the epoch that counts and calibrate its logits. With 0, the last
                epoch counts as it is.

        Raises:
            UserError: an unknown objective.
        """
        if objective not in OBJECTIVES:
            raise UserError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
        self.objective, self.runtime, self.seed = objective, runtime, seed
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.lr, self.weight_decay, self.held_back = lr, weight_decay, held_back

    def fit(self, x: Tensor, y: Tensor, *, num_classes: int | None = None) -> "ClassifierMI":
        """Trains on (N, d) features or (N, C, H, W) images and (N,) labels 0..K-1.

        Raises:
            UserError: lengths that differ, a class without samples, a diverging loss.
        """
        x, y = as_samples(x, y)
        if x.ndim not in (2, 4):
            raise UserError(f"features of shape {tuple(x.shape)}: they must be (samples, features)")
        if len(x) != len(y):
            raise UserError(f"{len(x)} inputs but {len(y)} labels")
        if num_classes is None:
            num_classes = int(y.max()) + 1 if len(y) else 1
        device = self.runtime.device
        self.log_prior = log_prior_from_labels(y, num_classes).to(device)
        self.scale, self.bias = torch.ones(()), torch.zeros(num_classes)
        self._measure(x)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            if x.ndim == 2:
                self.network = mlp(x.shape[1], num_classes, self.hidden).to(device)
            else:
                self.network = small_cnn(x.shape[1], num_classes).to(device)
        train, back = hold_back(y.cpu(), self.held_back, self.seed)
        best = _BestEpoch(self, x[back], y[back].cpu()) if len(back) else None
        batches = TensorBatches(
            self._standardise(x[train]),
            y[train],
            batch_size=self.batch_size,
            seed=self.seed,
            runtime=self.runtime,
        )
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.lr, total_steps=self.epochs * len(batches)
        )
        self.history = fit(
            self.network,
            batches,
            self._loss,
            optimizer,
            epochs=self.epochs,
            runtime=self.runtime,
            scheduler=scheduler,
            after_epoch=best,
            description=self.objective,
        )
        if best is not None:
            self.network.load_state_dict(best.state)
            logits, log_prior = self._logits(x[back]), self.log_prior.cpu()
            self.scale, self.bias = fit_calibration(logits, y[back].cpu(), log_prior)
        return self

    def pointwise_mutual_information(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) estimates of log p(x, k) / (p(x) p(k)) in nats, on the CPU."""
        x = torch.as_tensor(x, dtype=torch.float32)
        logits = self.scale * self._logits(x) + self.bias
        return pointwise_mutual_information(logits, self.log_prior.cpu())

    def estimate(self, x: Tensor, y: Tensor) -> MIEstimate:
        """The estimate on samples that `fit` has not seen.

        Raises:
            UserError: lengths that differ, or a label that `fit` has not seen.
        """
        x, y = as_samples(x, y)
        num_classes = len(self.log_prior)
        if len(x) != len(y) or y.min() < 0 or y.max() >= num_classes:
            raise UserError(
                f"{len(x)} samples, {len(y)} labels from {y.min()} to {y.max()}: a label for each "
                f"sample, in 0..{num_classes - 1}"
            )
        pointwise = select_label(self.pointwise_mutual_information(x), y.cpu())
        if self.objective == "softmax-log-k":
            pointwise = pointwise + self.log_prior.cpu()[y.cpu()] + math.log(num_classes)
        return MIEstimate.from_pointwise(pointwise)

    def _logits(self, x: Tensor) -> Tensor:
        """(N, K) logits of PC-softmax before calibration, on the CPU."""
        logits = predict(
            self.network, self._standardise(x), runtime=self.runtime, batch_size=50_000
        )
        if self.objective in ("softmax", "softmax-log-k"):
            return logits_from_softmax(logits, self.log_prior.cpu())
        return logits

    def _measure(self, x: Tensor) -> None:
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        self.mean, std = x.mean(dim=axes, keepdim=True), x.std(dim=axes, correction=0, keepdim=True)
        # The spread of a constant feature is rounding error: it must not be blown up to one.
        self.std = torch.where(std > 1e-6 * self.mean.abs(), std, 1.0)

    def _standardise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.objective == "pc-softmax":
            return pc_softmax_loss(logits, labels, self.log_prior)
        return nn.functional.cross_entropy(logits, labels)


class _BestEpoch:
    """Keeps the weights of the epoch with the least loss on held-back samples."""

    def __init__(self, estimator: ClassifierMI, x: Tensor, y: Tensor):
        self.estimator, self.x, self.y = estimator, x, y
        self.loss, self.state = math.inf, None

    def __call__(self) -> None:
        ratio = self.estimator.pointwise_mutual_information(self.x)
        loss = -select_label(ratio, self.y).mean().item()
        if loss < self.loss:
            self.loss = loss
            self.state = copy.deepcopy(self.estimator.network.state_dict())


def hold_back(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions to train on and to hold back: `share` of each class, rounded down, at random."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    rank = torch.arange(len(labels)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    kept = rank >= torch.repeat_interleave((share * counts).long(), counts)
    return by_class[kept].sort().values, by_class[~kept].sort().values
