"""Mutual information from a classifier: train it, then average its held-out pointwise values.

estimator = ClassifierMI("pc-softmax", runtime=runtime, seed=0).fit(x_train, y_train)
estimate = estimator.estimate(x_test, y_test)
print(estimate.value, estimate.lower, estimate.upper)
"""

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

OBJECTIVES = ("softmax", "pc-softmax")


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


def mlp(num_features: int, num_classes: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """(N, num_features) -> (N, num_classes) logits through ReLU layers of the given widths."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(num_features, width), nn.ReLU()]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


class ClassifierMI:
    """A ReLU network as estimator of I(X;Y), trained by softmax or PC-softmax cross-entropy.

    Both objectives reach the same class of density ratios and have the same optimum. Softmax
    logits are turned into log ratios by subtracting the log class prior, that is, its cross-
    entropy is taken from H(Y) and not, as in the paper's original code, from log K.
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
    ):
        """
        Args:
            objective: "pc-softmax" or "softmax".
            hidden: widths of the hidden layers.
            lr: peak of the one-cycle schedule of AdamW.

        Raises:
            UserError: an unknown objective.
        """
        if objective not in OBJECTIVES:
            raise UserError(f"objective {objective!r}: use one of {', '.join(OBJECTIVES)}")
        self.objective, self.runtime, self.seed = objective, runtime, seed
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.lr, self.weight_decay = lr, weight_decay

    def fit(self, x: Tensor, y: Tensor, *, num_classes: int | None = None) -> "ClassifierMI":
        """Trains on (N, d) features and (N,) labels 0..K-1; the class prior is that of y.

        Raises:
            UserError: lengths that differ, a class without samples, a diverging loss.
        """
        if x.ndim != 2:
            raise UserError(f"features of shape {tuple(x.shape)}: they must be (samples, features)")
        if num_classes is None:
            num_classes = int(y.max()) + 1 if len(y) else 1
        device = self.runtime.device
        self.log_prior = log_prior_from_labels(y, num_classes).to(device)
        self.mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
        # The spread of a constant feature is rounding error: it must not be blown up to one.
        self.std = torch.where(std > 1e-6 * self.mean.abs(), std, 1.0)
        batches = TensorBatches(
            self._standardise(x),
            y,
            batch_size=self.batch_size,
            seed=self.seed,
            runtime=self.runtime,
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self.network = mlp(x.shape[1], num_classes, self.hidden).to(device)
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
            description=self.objective,
        )
        return self

    def pointwise_mutual_information(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) estimates of log p(x, k) / (p(x) p(k)) in nats, on the CPU."""
        logits = predict(
            self.network, self._standardise(x), runtime=self.runtime, batch_size=100_000
        )
        log_prior = self.log_prior.cpu()
        if self.objective == "softmax":
            logits = logits_from_softmax(logits, log_prior)
        return pointwise_mutual_information(logits, log_prior)

    def estimate(self, x: Tensor, y: Tensor) -> MIEstimate:
        """The estimate on samples that `fit` has not seen.

        Raises:
            UserError: lengths that differ, or a label that `fit` has not seen.
        """
        num_classes = len(self.log_prior)
        if len(x) != len(y) or y.min() < 0 or y.max() >= num_classes:
            raise UserError(
                f"{len(x)} samples, {len(y)} labels from {y.min()} to {y.max()}: a label for each "
                f"sample, in 0..{num_classes - 1}"
            )
        pointwise = self.pointwise_mutual_information(x)
        return MIEstimate.from_pointwise(select_label(pointwise, y.cpu()))

    def _standardise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.objective == "softmax":
            return nn.functional.cross_entropy(logits, labels)
        return pc_softmax_loss(logits, labels, self.log_prior)
