"""scikit-learn classifiers as estimators: H(Y) minus the log-loss on test samples.

estimate = SklearnMI("lda").fit(x_train, y_train).estimate(x_test, y_test)

For any classifier q, the mean of log q(y | x) - log p(y) over test samples is the Barber-Agakov
lower bound on I(X;Y); p is the class prior of the training labels.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from mi_common.calibration import fit_calibration
from mi_common.errors import UserError
from mi_common.information import (
    log_prior_from_labels,
    logits_from_softmax,
    pointwise_mutual_information,
)
from mi_estimator.estimators.base import LogRatioEstimator, far_origin, shifted
from mi_estimator.estimators.classifier import validation_split
from mi_estimator.estimators.networks import Standardise
from mi_estimator.estimators.registry import Settings

# Name -> the classifier of a random seed; all but trees and boosting are deterministic.
CLASSIFIERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "logistic-regression": lambda seed: LogisticRegression(max_iter=1000),
    "lda": lambda seed: LinearDiscriminantAnalysis(),
    "shrunk-lda": lambda seed: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "qda": lambda seed: QuadraticDiscriminantAnalysis(),
    "regularised-qda": lambda seed: QuadraticDiscriminantAnalysis(reg_param=0.1),
    "gradient-boosting": lambda seed: HistGradientBoostingClassifier(
        early_stopping=True, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    ),
    "extra-trees": lambda seed: ExtraTreesClassifier(200, min_samples_leaf=5, random_state=seed),
    "nearest-neighbours": lambda seed: KNeighborsClassifier(30),
}
# With more training samples, a random part of them is used: their time or memory grows with them.
MAX_SAMPLES = {name: 200_000 for name in CLASSIFIERS}
MAX_SAMPLES |= {"extra-trees": 50_000, "nearest-neighbours": 20_000}
MAX_VALUES = 1e8  # training samples x features, in float64: 0.8 GB
COVARIANCE_WORK = 1e11  # training samples x features squared of LDA and QDA, about 20 s
LOGISTIC_WORK = 2e9  # training samples x features x classes, about a minute
MAX_COVARIANCE = 3000  # features of a covariance matrix that is inverted
MAX_CALIBRATION = 20_000  # validation samples
# Iterations of gradient boosting are limited to so many samples x features x classes, about 20 s.
BOOSTING_WORK = 1e9
ONE_THREAD = 1e6  # values, below which threads wait longer for each other than they work
TREE_VALUES = 1e8  # probabilities in the nodes of all extra trees, 8 bytes each
PRIOR_SHARE = 0.03  # of the prior in probabilities that count samples, and so may be zero


class SklearnMI(LogRatioEstimator):
    """A scikit-learn classifier on the features that `networks.Standardise` scales.

    log q is the decision function where there is one: the log posterior up to a constant of x,
    which stays finite where `predict_proba` rounds to 0. Trees and neighbours count samples, and
    3 % of their probabilities are those of the prior, so that no class is impossible.

    Attributes:
        name: a name of CLASSIFIERS.
        seed: of the validation set, of the part of large samples, and of the classifier itself;
            gradient boosting stops early by a random tenth of its training samples.
        val_fraction: share of the samples given to `fit` that calibrates the logits. With 0, all
            samples train and nothing is calibrated.
        bias_sd: of the calibration, see `fit_calibration`.
    """

    is_cross_entropy = True

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        val_fraction: float = 0.0,
        bias_sd: float = Settings.bias_sd,
    ):
        self.name, self.seed, self.val_fraction, self.bias_sd = name, seed, val_fraction, bias_sd

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "SklearnMI":
        """Raises UserError if a fit fails, as QDA's does on a class of singular covariance."""
        if self.name not in CLASSIFIERS:
            raise UserError(f"classifier {self.name!r}: use one of {', '.join(CLASSIFIERS)}")
        y = y.cpu()
        self.log_prior_ = log_prior_from_labels(y, num_classes).double()
        train, validation = validation_split(y, self.val_fraction, self.seed)
        used, features = train, x.shape[1]
        most = min(MAX_SAMPLES[self.name], int(MAX_VALUES / features))
        if self.name.endswith("da"):
            most = min(most, int(COVARIANCE_WORK / features**2))
        if self.name == "logistic-regression":
            most = min(most, int(LOGISTIC_WORK / (features * num_classes)))
        if len(train) > most:
            used = train[validation_split(y[train], 1 - most / len(train), self.seed)[0]]
        self._training_log_prior = log_prior_from_labels(y[used], num_classes).double()
        self._origin = far_origin(x)
        self.scaling_ = Standardise(shifted(x[used], self._origin))
        self.model_ = CLASSIFIERS[self.name](self.seed)
        self._limit_work(y[used], features, num_classes)
        try:
            with warnings.catch_warnings(), threads_for(x[used]):
                # Older versions of scikit-learn only warn of a singular covariance of QDA.
                action = "error" if "qda" in self.name else "default"
                warnings.filterwarnings(action, message="Variables are collinear")
                self.model_.fit(self._inputs(x[used]), y[used].numpy())
        # LinAlgError is a ValueError too; LDA on constant features fails with an IndexError
        except (ValueError, IndexError, UserWarning) as error:
            raise UserError(f"{self.name}: {' '.join(str(error).split())}") from error
        self.scale_, self.bias_ = torch.ones(()), torch.zeros(num_classes)
        if len(validation):
            validation = validation[:: math.ceil(len(validation) / MAX_CALIBRATION)]
            arrays = self._logits(x[validation]), y[validation], self.log_prior_
            self.scale_, self.bias_ = fit_calibration(*arrays, bias_sd=self.bias_sd)
        return self

    def _limit_work(self, labels: Tensor, features: int, num_classes: int) -> None:
        """Fewer iterations or neighbours where the samples require it.

        UserError for too few samples, or too much time or memory.
        """
        rarest = int(torch.bincount(labels).min())
        if "qda" in self.name and rarest <= features:
            raise UserError(
                f"{self.name}: a class of {rarest} samples has no covariance in {features} "
                "features; every class needs more samples than there are features"
            )
        if self.name != "lda" and self.name.endswith("da") and features > MAX_COVARIANCE:
            raise UserError(f"{self.name}: at most {MAX_COVARIANCE} features; there are {features}")
        trees = 1 if num_classes == 2 else num_classes
        if self.name == "gradient-boosting":
            iterations = int(BOOSTING_WORK / (len(labels) * features * trees))
            if iterations < 10:
                raise UserError(f"gradient-boosting: too slow for {features} x {num_classes}")
            self.model_.set_params(max_iter=min(iterations, 100))
        if self.name == "nearest-neighbours":
            self.model_.set_params(n_neighbors=min(self.model_.n_neighbors, len(labels)))
        nodes = 200 * 2 * len(labels) / 5  # of 200 trees, at least five samples a leaf
        if self.name == "extra-trees" and nodes * num_classes > TREE_VALUES:
            raise UserError(f"extra-trees: too much memory for {num_classes} classes")

    def log_ratio(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) float64 log p(x, k) / (p(x) p(k)) in nats."""
        return pointwise_mutual_information(
            self.scale_ * self._logits(x) + self.bias_, self.log_prior_
        )

    def _logits(self, x: Tensor) -> Tensor:
        """(N, K) logits of PC-softmax before calibration."""
        rows = max(1, min(20_000, 10**7 // x.shape[1]))  # 80 MB of float64
        with threads_for(x):
            logits = torch.cat([self._scores(self._inputs(part)) for part in x.split(rows)])
        if not torch.isfinite(logits).all():
            raise UserError(f"{self.name}: scores that are not finite; are features collinear?")
        return logits_from_softmax(logits, self._training_log_prior)

    def _scores(self, x: np.ndarray) -> Tensor:
        """(N, K) log q(k | x), up to a constant of x."""
        if hasattr(self.model_, "decision_function"):
            scores = torch.from_numpy(self.model_.decision_function(x)).double()
            if scores.ndim == 1:  # of two classes, scikit-learn gives the log odds of the second
                return torch.stack((torch.zeros_like(scores), scores), dim=1)
            return scores
        probabilities = torch.from_numpy(self.model_.predict_proba(x))
        return (
            probabilities + PRIOR_SHARE * (self._training_log_prior.exp() - probabilities)
        ).log()

    @torch.inference_mode()
    def _inputs(self, x: Tensor) -> np.ndarray:
        """Scaled features in float64, for the covariances of LDA and QDA."""
        return self.scaling_(shifted(x.cpu().double(), self._origin)).numpy()


def threads_for(x: Tensor) -> threadpool_limits:
    """A context with one thread for few values, and all for many."""
    return threadpool_limits(1 if x.numel() < ONE_THREAD else None)
