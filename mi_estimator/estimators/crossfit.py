"""Cross-fitting: every sample is scored out of fold, by an estimator that was not trained on it.

estimate_mutual_information(x, y)                                      -> MIEstimate

result = cross_fit(build, x, y, folds=5, seed=0)     # build: seed -> ClassifierMI(seed=seed)
result.estimate(), result.accuracy, result.permutation_p_value(1000, seed=0)
"""

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import (
    log_prior_from_counts,
    pointwise_mutual_information,
    select_label,
)
from mi_common.progress import Progress
from mi_common.runtime import Runtime, default_runtime
from mi_estimator.estimators.base import Estimator, MIEstimate, check_features
from mi_estimator.estimators.registry import CROSS_FITTED, Settings, build_estimator
from mi_estimator.samples import check_folds, checked_samples, class_codes

MAX_TRAINING_SCORES = 20_000  # training samples of a fold that `training_value` uses


@dataclass(frozen=True)
class CrossFit:
    """Out-of-fold scores of all samples.

    Attributes:
        log_ratio: (N, K) float64 log p(x, k) / (p(x) p(k)) in nats under `log_prior`.
        log_prior: (K,) float64, the label frequencies or, if `prior_is_known`, a given prior.
        labels: (N,).
        folds: (N,) number of the fold in which the sample was a test sample.
        pointwise: (N,) the label's log ratio or, for critics, the terms of the bound.
        training_value: the estimate of each fold's estimator on at most `MAX_TRAINING_SCORES` of
            its training samples, averaged over folds. The out-of-sample and the training value
            bracket I(X;Y) when the model can represent it.
        weights: of the candidates of `auto`, averaged over folds, largest first.
        skipped: candidates of `auto` that some fold could not train, and why.
    """

    log_ratio: Tensor
    log_prior: Tensor
    prior_is_known: bool
    labels: Tensor
    folds: Tensor
    pointwise: Tensor
    training_value: float
    weights: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def log_posterior(self) -> Tensor:
        """(N, K) log q(k | x) under `log_prior`."""
        return self.log_ratio + self.log_prior

    def estimate(self) -> MIEstimate:
        """The mean of `pointwise`, its classes weighted by the prior if that is known.

        The standard error is the larger of two: that of the mean over samples (Bayle et al. 2020),
        and that of the mean over folds. Folds share training samples, and where there is little
        information their estimators differ by more than the samples do.
        """
        known = self.log_prior if self.prior_is_known else None
        pooled = _mean(self.pointwise, self.labels, known)
        folds = [self.folds == fold for fold in range(int(self.folds.max()) + 1)]
        values = [_mean(self.pointwise[fold], self.labels[fold], known).value for fold in folds]
        between = torch.tensor(values).std().item() / len(values) ** 0.5 if len(values) > 1 else 0.0
        error = max(pooled.standard_error, between)
        return MIEstimate.normal(pooled.value, error, pooled.pointwise)

    @property
    def class_weights(self) -> Tensor:
        """(K,) weight of a sample of each class; the weights of all samples sum to 1."""
        return self.log_prior.exp() / torch.bincount(self.labels)

    @property
    def accuracy(self) -> float:
        """Probability that the most likely class is the label, under `log_prior`."""
        hit = self.log_posterior.argmax(dim=1) == self.labels
        return (self.class_weights[self.labels] * hit).sum().item()

    def with_miller_madow(self) -> "CrossFit":
        """The same, with the bias of plug-in class frequencies corrected in every term.

        With the frequencies of N labels in place of their distribution, the estimate is the
        information of the same features under these frequencies. I is concave in them, so to first
        order the estimate is too low by (sum_k E q(k|x)^2 / p(k) - 1) / 2N. Where features
        determine the label this is Miller and Madow's (K - 1) / 2N, as for H(Y) itself; where they
        are independent of it, zero.
        """
        chi_square = (self.log_ratio.exp() ** 2 @ self.log_prior.exp()).mean().item() - 1
        term = chi_square / (2 * len(self.labels))
        return dataclasses.replace(
            self, pointwise=self.pointwise + term, training_value=self.training_value + term
        )

    def permutation_p_value(self, permutations: int, seed: int) -> float:
        """P-value of independence: labels are permuted within folds, estimators stay.

        An estimator has not seen the labels of its test fold. Under independence these are
        exchangeable given the estimator, so no permutation needs training. The statistic is the
        mean log ratio of the label; a critic's bound differs from it by a term that no permutation
        changes. The p-value is (1 + number of permutations that reach it) / (1 + permutations).
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
    build: Callable[[int], Estimator],
    x: Tensor,
    y: Tensor,
    *,
    folds: int,
    seed: int,
    log_prior: Tensor | None = None,
    show_progress: bool = False,
) -> CrossFit:
    """Trains an estimator for each fold and scores the samples of that fold.

    Args:
        build: seed -> a `LogRatioEstimator`.
        x, y: checked samples and labels 0..K-1; folds keep the share of each class.
        log_prior: (K,) known class prior where it differs from the samples' frequencies; not for
            critics, whose bounds are plain means over samples.
        show_progress: whether to name the fold, see `mi_common.progress`.

    UserError as `check_folds`.
    """
    y = y.cpu()
    counts, known_prior = check_folds(y, folds), log_prior
    if log_prior is None:
        log_prior = log_prior_from_counts(counts, dtype=torch.float64)

    def score(estimator: Estimator, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Log ratios under `log_prior`, and terms of the estimate."""
        log_ratio = estimator.log_ratio(x[rows]).double()
        log_ratio = pointwise_mutual_information(log_ratio, log_prior)
        if estimator.is_cross_entropy:
            return log_ratio, select_label(log_ratio, y[rows])
        return log_ratio, estimator.terms(x[rows], y[rows])

    log_ratio = torch.empty(len(y), len(counts), dtype=torch.float64)
    fold_of, pointwise = torch.empty_like(y), torch.empty(len(y), dtype=torch.float64)
    training_values, weights, skipped = [], Counter(), {}
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    with Progress("", folds, show=show_progress) as progress:
        for fold, (train, test) in enumerate(splits):
            progress.name(f"fold {fold + 1}/{folds}")
            train, test = torch.from_numpy(train), torch.from_numpy(test)
            estimator = build(seed + fold).train(x[train], y[train], len(counts))
            fold_of[test] = fold
            log_ratio[test], pointwise[test] = score(estimator, test)
            part = train[:: math.ceil(len(train) / MAX_TRAINING_SCORES)]
            training_values.append(_mean(score(estimator, part)[1], y[part], known_prior).value)
            for name, weight in getattr(estimator, "weights_", {}).items():
                weights[name] += weight / folds
            skipped |= getattr(estimator, "skipped_", {})
            progress.step()
            estimate = _mean(pointwise[test], y[test], known_prior).value
            progress.finish(f"fold {fold + 1}/{folds}", nats=estimate)
    known, training_value = known_prior is not None, sum(training_values) / folds
    of_candidates = {"weights": dict(weights.most_common()), "skipped": skipped}
    return CrossFit(
        log_ratio, log_prior, known, y, fold_of, pointwise, training_value, **of_candidates
    )


def _mean(pointwise: Tensor, labels: Tensor, known_prior: Tensor | None) -> MIEstimate:
    if known_prior is None:
        return MIEstimate.from_pointwise(pointwise)
    return MIEstimate.under_prior(pointwise, labels, known_prior)


def estimate_mutual_information(
    x,
    y,
    *,
    estimator: str = "auto",
    folds: int = 5,
    seed: int = 0,
    runtime: Runtime | None = None,
    missing: str | None = None,
    bins: int | None = None,
    show_progress: bool = False,
    **settings,
) -> MIEstimate:
    """The cross-fitted estimate of I(X;Y) in nats that `mi_estimator.estimate` prints.

    Args:
        x: (N, d) features, as array, tensor or DataFrame, or (N, C, H, W) images.
        y: (N,) labels, numbers or text, as array, tensor, list or Series.
        estimator: a name of CROSS_FITTED.
        runtime: by default a GPU if there is one, in fp32.
        missing, bins: as in `checked_samples`; not for images.
        show_progress: whether to print each fold and the time left.
        settings: fields of `Settings`, in place of its defaults.

    Warns of what may make the estimate too high, such as a feature that numbers the rows. UserError
    for an unknown estimator, and as `checked_samples` and `check_folds`.
    """
    if estimator not in CROSS_FITTED:
        raise UserError(f"estimator {estimator!r}: use one of {', '.join(CROSS_FITTED)}")
    x, y = _samples(x, y, missing=missing, bins=bins)
    runtime, settings = runtime or default_runtime(), Settings(**settings)
    build = partial(build_estimator, estimator, runtime, settings=settings)
    fit = cross_fit(build, x, y, folds=folds, seed=seed, show_progress=show_progress)
    return fit.estimate()


def _samples(x, y, **options) -> tuple[Tensor, Tensor]:
    """Checked samples of `estimate_mutual_information`, and codes of the labels."""
    x, y = (values.cpu() if isinstance(values, Tensor) else values for values in (x, y))
    try:
        # Data of pandas keep their types: text, categories, whole numbers that may be missing.
        x = x if isinstance(x, pd.DataFrame) else np.asarray(x)
        y = y.squeeze(axis=1) if isinstance(y, pd.DataFrame) else y
        _require_same_order(x, y)
        y = y if isinstance(y, pd.Series) else pd.Series(np.ravel(np.asarray(y)))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"x or y is no array: {error}") from error
    if x.ndim not in (1, 2, 4):
        raise UserError(f"x of shape {x.shape}: use (N, d) features or (N, C, H, W) images")
    if x.ndim < 4:
        samples = checked_samples(pd.DataFrame(x), y, **options)
        for warning in samples.warnings:
            warnings.warn(warning, stacklevel=3)
        return samples.x, samples.y
    if any(options.values()):
        raise UserError("missing and bins are for tables, not for images")
    if x.dtype.kind not in "biuf":
        raise UserError(f"images of type {x.dtype}: use finite real numbers")
    x = torch.from_numpy(x.astype(x.dtype.newbyteorder("="), copy=False))
    check_features(x, images=True)
    return x, torch.from_numpy(class_codes(y)[0])


def _require_same_order(x, y) -> None:
    """UserError if DataFrame and Series have the same index in another order."""
    if not isinstance(x, pd.DataFrame) or not isinstance(y, pd.Series) or x.index.equals(y.index):
        return
    if len(x) == len(y) and x.index.is_unique and y.index.isin(x.index).all():
        raise UserError("x and y have their index in another order; use y.loc[x.index]")
