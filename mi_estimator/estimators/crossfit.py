"""Cross-fitting: every sample is scored by an estimator that never saw it.

estimate_mutual_information(x, y)                                      -> MIEstimate

found = cross_fit(build, x, y, folds=5, seed=0)      # build: seed -> ClassifierMI(seed=seed)
found.estimate(), found.accuracy, found.permutation_p_value(1000, seed=0)
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import (
    class_counts,
    log_prior_from_counts,
    pointwise_mutual_information,
    select_label,
)
from mi_common.runtime import Runtime, default_runtime
from mi_estimator.estimators.classifier import MIEstimate, as_samples
from mi_estimator.estimators.critics import CriticMI
from mi_estimator.estimators.registry import CROSS_FITTED, build_estimator
from mi_estimator.samples import checked_samples, class_codes

# How the networks of a data set of ordinary size (100 to 100,000 samples) are trained.
TRAINING = {
    "epochs": 50,
    "batch_size": 100,
    "lr": 2e-3,
    "weight_decay": 1e-2,
    "held_back": 0.15,
    "members": 4,
}


@dataclass(frozen=True)
class CrossFit:
    """What the estimators of all folds say of the samples that they did not see.

    Attributes:
        log_ratio: (N, K) float64 log p(x, k) / (p(x) p(k)) in nats under `log_prior`.
        log_prior: (K,) float64, the label frequencies or, if `prior_is_known`, a given prior.
        labels: (N,).
        folds: (N,) number of the fold that held the sample out.
        pointwise: (N,) the label's log ratio or, of a critic, the terms of its bound.
        training_value: the estimate that each fold's estimator gives of the samples that it was
            trained on, the mean over folds. The held-out and the training value bracket I(X;Y)
            when the model can represent it.
    """

    log_ratio: Tensor
    log_prior: Tensor
    prior_is_known: bool
    labels: Tensor
    folds: Tensor
    pointwise: Tensor
    training_value: float

    @property
    def log_posterior(self) -> Tensor:
        """(N, K) log q(k | x) under `log_prior`."""
        return self.log_ratio + self.log_prior

    def estimate(self) -> MIEstimate:
        """The mean of `pointwise`, its classes weighted by the prior if that is known.

        The standard error is that of the mean over samples (Bayle et al. 2020), or the one that the
        spread of the folds' means speaks for, if larger: folds share training samples, and where
        there is little information what they learned differs by more than the samples do.
        """
        known = self.log_prior if self.prior_is_known else None
        pooled = _mean(self.pointwise, self.labels, known)
        folds = [self.folds == fold for fold in range(int(self.folds.max()) + 1)]
        values = [_mean(self.pointwise[own], self.labels[own], known).value for own in folds]
        between = torch.tensor(values).std().item() / len(values) ** 0.5 if len(values) > 1 else 0.0
        return pooled.with_standard_error(max(pooled.standard_error, between))

    @property
    def class_weights(self) -> Tensor:
        """(K,) what a sample of each class counts for; all samples together 1."""
        return self.log_prior.exp() / torch.bincount(self.labels)

    @property
    def accuracy(self) -> float:
        """Probability that the most likely class is the label, under `log_prior`."""
        hit = self.log_posterior.argmax(dim=1) == self.labels
        return (self.class_weights[self.labels] * hit).sum().item()

    def with_miller_madow(self) -> "CrossFit":
        """The same with what plug-in class frequencies cost added to every term.

        With the frequencies of N labels in place of their distribution the estimate is the
        information of the same features under these frequencies. I is concave in them, so it is
        low by (sum_k E q(k|x)^2 / p(k) - 1) / 2N to first order: by Miller and Madow's (K - 1) / 2N
        where features tell the label, as H(Y) itself, and by nothing where they are independent.
        """
        chi_square = (self.log_ratio.exp() ** 2 @ self.log_prior.exp()).mean().item() - 1
        term = chi_square / (2 * len(self.labels))
        return dataclasses.replace(
            self, pointwise=self.pointwise + term, training_value=self.training_value + term
        )

    def permutation_p_value(self, permutations: int, seed: int) -> float:
        """P-value of independence: labels are permuted within folds, estimators stay.

        An estimator knows nothing of its held-out labels, so under independence these are
        exchangeable given it and no permutation needs training. The statistic is the mean log
        ratio of the label; the critics' bounds over all held-out samples differ from it by what no
        permutation moves. The value is (1 + how many permutations reach it) / (1 + permutations).
        """
        generator = torch.Generator().manual_seed(seed)
        weighted = self.log_ratio * self.class_weights
        observed = select_label(weighted, self.labels).sum()
        order = self.folds.argsort(stable=True)
        reached = 0
        for _ in range(permutations):
            shuffled = torch.randperm(len(order), generator=generator)
            shuffled = shuffled[self.folds[shuffled].argsort(stable=True)]
            reached += int(weighted[order, self.labels[shuffled]].sum() >= observed - 1e-12)
        return (1 + reached) / (1 + permutations)


def cross_fit(
    build: Callable,
    x: Tensor,
    y: Tensor,
    *,
    folds: int,
    seed: int,
    log_prior: Tensor | None = None,
) -> CrossFit:
    """Trains an estimator a fold and scores the samples that it was not given.

    Args:
        build: seed -> a `ClassifierMI`, `SklearnMI` or `CriticMI`.
        x, y: samples and labels 0..K-1; folds keep the share of each class.
        log_prior: (K,) of labels whose true frequencies are known and differ from those of the
            samples; not for critics, whose bounds are means over samples as they come.

    Raises:
        UserError: a class with fewer samples than folds.
    """
    y = y.cpu()
    num_classes = int(y.max()) + 1
    check_folds(y, folds)
    known = log_prior
    if known is None:
        log_prior = log_prior_from_counts(class_counts(y, num_classes), dtype=torch.float64)
    log_ratio = torch.empty(len(y), num_classes, dtype=torch.float64)
    fold_of = torch.empty(len(y), dtype=torch.int64)
    pointwise = torch.empty(len(y), dtype=torch.float64)
    training = []
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    for fold, (train, test) in enumerate(splits):
        train, test = torch.from_numpy(train), torch.from_numpy(test)
        estimator = build(seed + fold).fit(x[train], y[train], num_classes=num_classes)
        fold_of[test] = fold
        log_ratio[test] = pointwise_mutual_information(
            estimator.pointwise_mutual_information(x[test]).double(), log_prior
        )
        if isinstance(estimator, CriticMI):
            pointwise[test] = estimator.estimate(x[test], y[test]).pointwise
            training.append(estimator.estimate(x[train], y[train]).value)
            continue
        pointwise[test] = select_label(log_ratio[test], y[test])
        own = estimator.pointwise_mutual_information(x[train]).double()
        own = select_label(pointwise_mutual_information(own, log_prior), y[train])
        training.append(_mean(own, y[train], known).value)
    training_value = sum(training) / folds
    return CrossFit(log_ratio, log_prior, known is not None, y, fold_of, pointwise, training_value)


def _mean(pointwise: Tensor, labels: Tensor, known_prior: Tensor | None) -> MIEstimate:
    if known_prior is None:
        return MIEstimate.from_pointwise(pointwise)
    return MIEstimate.under_prior(pointwise, labels, known_prior)


def check_folds(y: Tensor, folds: int, names: list[str] | None = None) -> None:
    """UserError for one fold, or a class with fewer samples than folds: one could not score it."""
    if folds < 2:
        raise UserError(f"--folds {folds}: at least 2")
    counts = class_counts(y, int(y.max()) + 1)
    rare = (counts < folds).nonzero().flatten().tolist()
    if rare:
        shown = ", ".join(f"{names[k] if names else k} ({counts[k]})" for k in rare[:10])
        raise UserError(
            f"classes with fewer samples than --folds {folds}: {shown}; use fewer folds, merge "
            "these classes or remove their samples"
        )


def estimate_mutual_information(
    x,
    y,
    *,
    estimator: str = "pc-softmax",
    folds: int = 5,
    seed: int = 0,
    runtime: Runtime | None = None,
    **training,
) -> MIEstimate:
    """The cross-fitted estimate of I(X;Y) in nats: what `mi_estimator.estimate` prints.

    Args:
        x: (N, d) features or (N, C, H, W) images, array or tensor.
        y: (N,) labels, numbers or strings.
        estimator: a name of CROSS_FITTED.
        runtime: by default a GPU if there is one, in fp32.
        training: of networks, in place of those of TRAINING.

    Raises:
        UserError: samples that cannot be used (see `checked_samples`), an unknown estimator, a
            class with fewer samples than folds.
    """
    if estimator not in CROSS_FITTED:
        raise UserError(f"estimator {estimator!r}: use one of {', '.join(CROSS_FITTED)}")
    x, y = (values.cpu() if isinstance(values, Tensor) else values for values in (x, y))
    try:
        x, y = np.asarray(x), pd.Series(np.ravel(np.asarray(y)))
    except ValueError as error:
        raise UserError(f"x or y is no array: {error}") from error
    if x.ndim not in (1, 2, 4):
        raise UserError(f"x of shape {x.shape}: use (N, d) features or (N, C, H, W) images")
    if x.ndim == 4:
        if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
            raise UserError(f"images of type {x.dtype}: use finite real numbers")
        x, y = as_samples(x.astype(x.dtype.newbyteorder("="), copy=False), class_codes(y)[0])
    else:
        samples = checked_samples(pd.DataFrame(x), y)
        x, y = samples.x, samples.y
    runtime = runtime or default_runtime()
    training = TRAINING | training
    found = cross_fit(
        lambda seed: build_estimator(estimator, runtime, seed, training),
        x,
        y,
        folds=folds,
        seed=seed,
    )
    return found.estimate()
