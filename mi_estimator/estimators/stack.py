"""`auto`: several classifiers, each calibrated, and the mixture of them that fits best.

estimate = StackedMI().fit(x_train, y_train).estimate(x_test, y_test)

Which classifier suits a table is not known beforehand. The validation set decides: it calibrates
and weights each one. The linear opinion pool sum_m w_m q_m(k | x) is a classifier, so its
estimate is a lower bound on I(X;Y) in expectation, like that of each.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import log_prior_from_labels, select_label
from mi_common.runtime import Runtime
from mi_estimator.estimators.base import LogRatioEstimator, far_origin, shifted
from mi_estimator.estimators.classifier import validation_split
from mi_estimator.estimators.networks import Standardise
from mi_estimator.estimators.registry import CROSS_ENTROPY, NETWORKS, Settings, build_estimator

PSEUDO_COUNT = 0.1  # validation samples that each candidate gets beforehand: a uniform prior
BIAS_SD = 0.3  # of the calibration of candidates: few samples calibrate many
LEAST_WEIGHT = 0.003  # a candidate below this weight is dropped, to save its time
MIN_EFFECTIVE = 5  # validation samples behind a standard error
SELECTION_SAMPLES = 20_000  # that choose features
MAX_VALIDATION = 20_000  # samples that give the weights
SELECTED = "selected features: "
WIDE = 50  # features
SELECTED_ONLY = (*NETWORKS, "extra-trees", "nearest-neighbours")  # suffer from useless features


class LabelFrequencies(LogRatioEstimator):
    """q(k | x) = p(k), which no features improve if they are independent of the label."""

    is_cross_entropy = True

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "LabelFrequencies":
        self.log_prior_ = log_prior_from_labels(y, num_classes).double()
        return self

    def log_ratio(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), len(self.log_prior_), dtype=torch.float64)


class StackedMI(LogRatioEstimator):
    """A linear opinion pool of calibrated classifiers: networks and those of scikit-learn.

    All train on the same part of the samples given to `fit`. The other part, the validation set,
    chooses the epoch of networks, calibrates each candidate, and gives the weights. Where few
    features carry information (see `informative_features`), each candidate trains once on all
    features and once on these; up to WIDE features, to save time, those of SELECTED_ONLY train on
    these alone. For images the network is the only one that trains. One more candidate
    ignores the features; it is used alone unless the mixture beats it (`beats_label_frequencies`).

    Attributes:
        settings: `candidates` are the estimators by name, `select_features` says whether they
            train on selected features, and `val_fraction` must be above 0. The others are those
            of networks, but half the `members` are trained: the other candidates replace the rest.
        runtime: of networks; by default a GPU if there is one, in fp32.
        weights_: candidate -> its share of the mixture, largest first.
        candidates_: candidate -> its estimator, and the features on which it trained.
        skipped_: candidate -> why it takes no part.
    """

    takes_images = True
    is_cross_entropy = True

    def __init__(
        self, *, settings: Settings | None = None, runtime: Runtime | None = None, seed: int = 0
    ):
        self.settings, self.runtime, self.seed = settings, runtime, seed

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "StackedMI":
        """UserError if no candidate can be trained, or there is no validation set."""
        settings = self.settings or Settings()
        self._origin = far_origin(x)
        x = shifted(x, self._origin)
        if settings.val_fraction == 0:
            raise UserError(
                "auto: --val-fraction 0 leaves no samples to weight its candidates; use a share "
                f"above 0, such as {Settings.val_fraction}"
            )
        y = y.cpu()
        self.log_prior_ = log_prior_from_labels(y, num_classes).double()
        train, validation = validation_split(y, settings.val_fraction, self.seed)
        if len(validation) == 0:
            raise UserError(f"auto: {len(y)} samples are too few for a validation set")
        names, columns = _checked_names(settings.candidates, images=x.ndim == 4), {"": slice(None)}
        if x.ndim == 2:
            members = math.ceil(settings.for_size(len(train)).members / 2)
            settings = dataclasses.replace(settings, members=members)
            if x.shape[1] > 1 and settings.select_features:
                selected = informative_features(x[train], y[train], self.seed)
                if 0 < len(selected) <= 0.75 * x.shape[1]:
                    columns[SELECTED] = selected
        settings = dataclasses.replace(settings, bias_sd=BIAS_SD)
        validation = validation[:: math.ceil(len(validation) / MAX_VALIDATION)]
        selected_only = SELECTED in columns and x.shape[1] <= WIDE
        self.candidates_, self.skipped_ = {}, {}
        log_ratios = []
        for prefix, features in columns.items():
            for name in names:
                if not prefix and selected_only and name in SELECTED_ONLY:
                    continue
                candidate = build_estimator(name, self.runtime, self.seed, settings)
                try:
                    candidate.train(x[:, features], y, num_classes)
                    log_ratio = candidate.log_ratio(x[validation][:, features])
                    log_ratios.append(select_label(log_ratio.double(), y[validation]))
                    self.candidates_[prefix + name] = (candidate, features)
                except UserError as error:
                    self.skipped_[prefix + name] = str(error)
        if not self.candidates_:
            raise UserError(f"auto: no candidate could be trained: {self.skipped_}")
        constant = LabelFrequencies().train(x, y, num_classes)
        self.candidates_["label-frequencies"] = (constant, slice(None))
        log_ratios.append(torch.zeros(len(validation), dtype=torch.float64))
        log_ratios = torch.stack(log_ratios)
        weights = pool_weights(log_ratios)
        gains = torch.logsumexp(log_ratios + weights.log()[:, None], dim=0)
        if not beats_label_frequencies(gains):
            weights = torch.zeros_like(weights)
            weights[-1] = 1.0
        kept = weights >= LEAST_WEIGHT
        weights = torch.where(kept, weights, 0) / weights[kept].sum()
        pairs = zip(self.candidates_, weights.tolist(), strict=True)
        self.weights_ = dict(sorted(pairs, key=lambda pair: -pair[1]))
        return self

    def log_ratio(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) float64 log p(x, k) / (p(x) p(k)) in nats."""
        x = shifted(x, self._origin)
        mixture = torch.full((len(x), len(self.log_prior_)), -torch.inf, dtype=torch.float64)
        for name, weight in self.weights_.items():
            if weight > 0:
                candidate, features = self.candidates_[name]
                log_ratio = candidate.log_ratio(x[:, features]).double()
                mixture = torch.logaddexp(mixture, log_ratio + np.log(weight))
        return mixture


def _checked_names(candidates: Sequence[str], *, images: bool) -> list[str]:
    """Each candidate once, of images only networks; UserError for another name, or for none."""
    names, allowed = list(dict.fromkeys(candidates)), [n for n in CROSS_ENTROPY if n != "auto"]
    if unknown := [name for name in names if name not in allowed]:
        raise UserError(f"auto: candidate {unknown[0]!r}: use some of {', '.join(allowed)}")
    names = [name for name in names if name in NETWORKS or not images]
    if not names:
        needed = "pc-softmax for images" if images else f"some of {', '.join(allowed)}"
        raise UserError(f"auto: no candidates; use {needed}")
    return names


def pool_weights(log_ratio: Tensor, *, steps: int = 300) -> Tensor:
    """The weights of a linear opinion pool, by expectation-maximisation.

    The log-likelihood sum_i log sum_m w_m q_m(y_i | x_i) is concave in w. A Dirichlet prior adds
    PSEUDO_COUNT samples to each candidate. (M, N) log ratios of the labels of N validation samples
    under M candidates -> (M,) weights that sum to 1.
    """
    weights = torch.full((len(log_ratio),), 1 / len(log_ratio), dtype=torch.float64)
    for _ in range(steps):
        share = torch.softmax(log_ratio.double() + weights.log()[:, None], dim=0)
        weights = share.sum(dim=1) + PSEUDO_COUNT
        weights = weights / weights.sum()
    return weights


def beats_label_frequencies(gains: Tensor) -> bool:
    """Whether a mixture predicts labels better than their frequencies, by a standard error.

    (N,) log ratios of the labels of the validation set. True without a test where few of them make
    up the sum, as in rare classes: fewer than MIN_EFFECTIVE by the effective sample size
    (sum |g|)^2 / sum g^2. A standard error then means little.
    """
    effective = gains.abs().sum() ** 2 / gains.square().sum()
    return bool(effective < MIN_EFFECTIVE or gains.mean() >= gains.std() / len(gains) ** 0.5)


def informative_features(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Positions of the features that extra trees use more than any shuffled feature.

    Each feature has a copy whose values are permuted over the samples, so that it carries nothing.
    The features whose importance exceeds that of all copies are selected (one round of Boruta,
    Kursa and Rudnicki 2010). (N, d) features and (N,) labels, of which at most SELECTION_SAMPLES
    are used -> (M,) positions, ascending; M may be 0.
    """
    size = min(SELECTION_SAMPLES, int(2e6 / (int(y.max()) + 1)), int(1e8 / x.shape[1]))
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(len(x))[:size])
    values = x[rows].cpu()
    values = Standardise(values)(values.float()).numpy()
    shuffled = generator.permuted(values, axis=0)
    trees = ExtraTreesClassifier(100, min_samples_leaf=5, random_state=seed)
    trees.fit(np.hstack([values, shuffled]), y[rows].numpy())
    importance, of_shuffled = np.split(trees.feature_importances_, 2)
    return torch.from_numpy(np.flatnonzero(importance > of_shuffled.max()))
