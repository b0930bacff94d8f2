"""scikit-learn classifiers as estimators: H(Y) minus the log-loss on test samples.

estimate = SklearnMI("lda").fit(x_train, y_train).estimate(x_test, y_test)

For any classifier q, the mean of log q(y | x) - log p(y) over test samples is the Barber-Agakov
lower bound on I(X;Y); p is the class prior of the training labels.
"""

import warnings
from functools import partial

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import (
    log_prior_from_labels,
    logits_from_softmax,
    pointwise_mutual_information,
    select_label,
)
from mi_estimator.estimators.base import LogRatioEstimator

CLASSIFIERS = {
    "logistic-regression": partial(LogisticRegression, max_iter=1000),
    "gradient-boosting": partial(HistGradientBoostingClassifier, early_stopping=True),
    "lda": LinearDiscriminantAnalysis,
    "qda": QuadraticDiscriminantAnalysis,
}


class SklearnMI(LogRatioEstimator):
    """A scikit-learn classifier on standardised features.

    log q comes from the decision function, which for these four is the log posterior up to a
    constant of x. It stays finite where `predict_proba` rounds to 0, so nothing is clipped.
    """

    is_cross_entropy = True

    def __init__(self, name: str, *, seed: int = 0, **options):
        """One of CLASSIFIERS, with `options` of its scikit-learn class.

        Gradient boosting stops early by a random tenth of its training data, which `seed` draws;
        the others are deterministic.
        """
        self.name, self.seed, self.options = name, seed, options

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "SklearnMI":
        """Raises UserError if a fit fails, as QDA's does on a class of singular covariance."""
        seeded = {"random_state": self.seed} if self.name == "gradient-boosting" else {}
        classifier = CLASSIFIERS[self.name](**seeded | self.options)
        self.model_ = make_pipeline(StandardScaler(), classifier)
        self.log_prior_ = log_prior_from_labels(y.cpu(), num_classes).double()
        rarest = int(torch.bincount(y).min())
        if self.name == "qda" and rarest <= x.shape[1]:
            raise UserError(
                f"qda: a class of {rarest} samples has no covariance in {x.shape[1]} features; "
                "every class needs more samples than there are features"
            )
        try:
            with warnings.catch_warnings():
                # Older versions of scikit-learn only warn of a singular covariance of QDA.
                action = "error" if self.name == "qda" else "default"
                warnings.filterwarnings(action, message="Variables are collinear")
                self.model_.fit(_array(x), y.cpu().numpy())
        # LinAlgError is a ValueError too; LDA on constant features fails with an IndexError
        except (ValueError, IndexError, UserWarning) as error:
            raise UserError(f"{self.name}: {' '.join(str(error).split())}") from error
        return self

    def log_ratio(self, x: Tensor) -> Tensor:
        """(N, d) -> (N, K) float64 log p(x, k) / (p(x) p(k)) in nats."""
        parts = [self.model_.decision_function(_array(part)) for part in x.split(100_000)]
        scores = torch.from_numpy(np.concatenate(parts))
        if scores.ndim == 1:  # of two classes, scikit-learn gives the log odds of the second
            scores = torch.stack((torch.zeros_like(scores), scores), dim=1)
        if not torch.isfinite(scores).all():
            raise UserError(f"{self.name}: scores that are not finite; are features collinear?")
        return pointwise_mutual_information(
            logits_from_softmax(scores.double(), self.log_prior_), self.log_prior_
        )

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        return select_label(self.log_ratio(x), y.cpu())


def _array(x: Tensor) -> np.ndarray:
    """float64, for the covariances of LDA and QDA."""
    return x.cpu().double().numpy()
