"""What all estimators share: the interface, the check of the samples, and the estimate."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from mi_common.errors import UserError
from mi_common.information import select_label
from mi_common.runtime import Runtime
from mi_estimator.encoding import far_medians
from mi_estimator.estimators.registry import NETWORKS
from mi_estimator.names import listed

QUANTILE = 1.959964  # of the standard normal, two-sided 95 %
LEAST_SIDE = 8  # pixels of an image


@dataclass(frozen=True)
class MIEstimate:
    """An estimate of I(X;Y) in nats.

    Attributes:
        value: mean of `pointwise`; for classifiers a lower bound on I(X;Y) in expectation.
        lower, upper: normal 95 % interval of the score that the trained estimator would get on
            infinitely many samples. It covers this bound, not I itself. For a cross-fit it covers
            the average score of the folds' estimators (Bayle et al. 2020, arXiv 2007.12671).
        pointwise: (N,) float64 term of each sample, such as its pointwise mutual information.
    """

    value: float
    lower: float
    upper: float
    pointwise: Tensor = field(repr=False)

    @classmethod
    def from_pointwise(cls, pointwise: Tensor) -> "MIEstimate":
        """The plain mean over samples."""
        pointwise = pointwise.double().cpu()
        standard_error = pointwise.std().item() / len(pointwise) ** 0.5
        return cls.normal(pointwise.mean().item(), standard_error, pointwise)

    @classmethod
    def under_prior(cls, pointwise: Tensor, labels: Tensor, log_prior: Tensor) -> "MIEstimate":
        """The mean of each class, weighted by a known (K,) prior; class counts are not random.

        Of a class without samples there is no mean: the others share its weight in proportion.
        """
        pointwise = pointwise.double().cpu()
        counts = torch.bincount(labels, minlength=len(log_prior))
        prior = log_prior.where(counts > 0, -torch.inf).softmax(dim=0)
        weights = (prior / counts)[labels]
        means = torch.zeros_like(log_prior).index_add_(0, labels, pointwise) / counts
        squares = weights.square() * (pointwise - means[labels]).square()
        variance = (squares * (counts / (counts - 1))[labels]).sum().item()
        return cls.normal((weights * pointwise).sum().item(), variance**0.5, pointwise)

    @classmethod
    def normal(cls, mean: float, standard_error: float, pointwise: Tensor) -> "MIEstimate":
        """With the normal 95 % interval."""
        half_width = QUANTILE * standard_error
        return cls(mean, mean - half_width, mean + half_width, pointwise)

    @property
    def standard_error(self) -> float:
        return (self.upper - self.lower) / (2 * QUANTILE)


class Estimator(BaseEstimator, ABC):
    """An estimator of I(X;Y): `fit` on samples, `estimate` on others.

    `fit` and `estimate` check their samples and call `train` and `terms`, which a subclass
    implements. Code that has checked its samples, such as `cross_fit`, calls these two directly.

    Samples are (N, d) features: an array, a tensor, or a DataFrame of numbers; networks also take
    (N, C, H, W) images. Labels are N texts, whole numbers or booleans. UserError for values that
    are missing or infinite in float32, text among the features, lengths that differ, or features
    other than those of `fit`; TypeError for sparse features.

    Attributes:
        takes_images: whether images are allowed.
        is_cross_entropy: whether the estimate is H(Y) minus a cross-entropy, so that `terms` are
            the labels' log ratios.
        classes_: (K,) sorted labels, set by `fit`, as `n_features_in_` and, for a DataFrame,
            `feature_names_in_`.
    """

    takes_images = False
    is_cross_entropy = False

    def fit(self, x, y, *, num_classes: int | None = None) -> "Estimator":
        """Trains on samples and their labels.

        With `num_classes` K, labels are 0..K-1, and so are the classes; by default, the classes are
        the labels that occur. UserError for fewer than two samples or classes, for a class without
        samples where the estimator needs all, and for a training that fails.
        """
        x = self._features(x, fitting=True, least=2)
        labels = label_array(y, len(x))
        classes = np.unique(labels) if num_classes is None else np.arange(num_classes)
        if len(classes) == 1 and num_classes is None:
            raise UserError(f"labels of 1 class, {classes[0]}: at least two are needed")
        self.train(x, _codes(labels, classes), len(classes))
        self.classes_ = classes
        return self

    def estimate(self, x, y) -> MIEstimate:
        """The estimate on samples that `fit` has not seen.

        UserError for fewer than two samples, or a label that is not in `classes_`.
        """
        check_is_fitted(self, "classes_")
        x = self._features(x, least=2)
        y = _codes(label_array(y, len(x)), self.classes_)
        return MIEstimate.from_pointwise(self.terms(x, y))

    def score(self, x, y) -> float:
        """The value of `estimate`, in nats."""
        return self.estimate(x, y).value

    @abstractmethod
    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "Estimator":
        """`fit` on checked samples and labels 0..K-1."""

    @abstractmethod
    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) terms whose mean is the estimate, in nats."""

    def log_ratio(self, x: Tensor) -> Tensor:
        """N samples -> (N, K) log p(x, k) / (p(x) p(k)) in nats; neighbours have none."""
        raise NotImplementedError(f"{type(self).__name__} has no log ratio")

    def _features(self, x, *, fitting: bool = False, least: int = 1) -> Tensor:
        """At least `least` checked samples as a tensor; `fitting` records their features."""
        if isinstance(x, Tensor):
            if x.layout != torch.strided:
                raise TypeError("sparse tensors are not supported; use x.to_dense()")
            check_features(x, least=least, images=self.takes_images)
            return validate_data(self, x, reset=fitting, skip_check_array=True)
        try:
            array = validate_data(
                self,
                x,
                reset=fitting,
                dtype=(np.float64, np.float32, np.uint8),
                allow_nd=True,
                ensure_all_finite=False,
            )
        except ValueError as error:
            text = " ".join(str(error).split())
            if text.startswith("could not convert"):
                text += "; encode text, for example by OneHotEncoder in a Pipeline"
            raise UserError(text) from error
        # A tensor shares the array's memory, which PyTorch needs in this layout.
        x = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), "CW"))
        check_features(x, least=least, images=self.takes_images)
        return x


class LogRatioEstimator(ClassifierMixin, Estimator):
    """An estimator that learns log p(x, k) / (p(x) p(k)), and thus is a scikit-learn classifier.

    A subclass implements `log_ratio`, and its `train` sets `log_prior_`: the (K,) log class
    frequencies of the training samples.
    """

    score = Estimator.score  # in nats; ClassifierMixin's is the accuracy

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) log ratios of the labels, in nats, on the CPU."""
        return select_label(self.log_ratio(x), y.cpu())

    def predict_log_proba(self, x) -> np.ndarray:
        """(N, K) log posterior of the classes under the prior of the training samples."""
        check_is_fitted(self, "classes_")
        log_ratio = self.log_ratio(self._features(x)).double()
        return torch.log_softmax(log_ratio + self.log_prior_.to(log_ratio), dim=1).numpy()

    def predict_proba(self, x) -> np.ndarray:
        """(N, K) probabilities of `predict_log_proba`."""
        return np.exp(self.predict_log_proba(x))

    def predict(self, x) -> np.ndarray:
        """(N,) the most likely class of each sample under the prior of the training samples."""
        best = self.predict_log_proba(x).argmax(axis=1)
        return self.classes_[best]


def check_features(x: Tensor, *, least: int = 2, images: bool = False) -> None:
    """UserError for another shape, fewer than `least` samples, or values that are not finite.

    Images have at least LEAST_SIDE pixels a side: a network halves them three times.
    """
    if x.ndim not in ((2, 4) if images else (2,)):
        raise UserError(f"features of shape {tuple(x.shape)}: they must be (samples, features)")
    if x.ndim == 4 and min(x.shape[2:]) < LEAST_SIDE:
        pixels = " x ".join(map(str, x.shape[2:]))
        raise UserError(f"images of {pixels} pixels: at least {LEAST_SIDE} x {LEAST_SIDE}")
    if len(x) < least:
        raise UserError(f"{len(x)} samples: at least {least} samples are needed")
    if x.is_floating_point() and not (finite := x.float().isfinite().flatten(1).all(dim=1)).all():
        row = int((~finite).nonzero()[0])
        raise UserError(
            f"sample {row} (from 0) holds NaN or infinity (in float32); remove or fill it"
        )


def far_origin(x: Tensor) -> Tensor | None:
    """`far_medians` of the features; None for images, types of at most four bytes, or all zero."""
    if x.ndim == 4 or x.dtype.itemsize <= 4:
        return None
    medians = far_medians(x.double().cpu().numpy())
    return torch.from_numpy(medians) if medians.any() else None


def shifted(x: Tensor, origin: Tensor | None) -> Tensor:
    """x without the (d,) `far_origin`, if there is one."""
    return x if origin is None else x.double() - origin.to(x.device)


def label_array(y, size: int) -> np.ndarray:
    """N = `size` labels as an array of text, numbers or booleans.

    UserError for another shape, missing labels, mixed types, or numbers that are not whole.
    """
    if isinstance(y, Tensor):
        y = y.cpu().numpy()
    elif hasattr(y, "to_numpy"):  # of pandas, which has more types of whole numbers
        y = y.to_numpy()
    try:
        y = column_or_1d(y, warn=True)
        if len(y) != size:
            raise UserError(f"{size} samples but {len(y)} labels: each sample needs a label")
        if (missing := pd.isna(y)).any():
            raise UserError(f"the label of sample {missing.argmax()} (from 0) is missing or NaN")
        kind = type_of_target(y)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"labels: {' '.join(str(error).split())}") from error
    if kind not in ("binary", "multiclass"):
        raise UserError(f"Unknown label type: {kind}; use text or whole numbers, or bin the values")
    return y


def _codes(labels: np.ndarray, classes: np.ndarray) -> Tensor:
    """(N,) positions of the labels among the classes; UserError for a label of no class."""
    codes = pd.Index(classes).get_indexer(labels)
    if (codes < 0).any():
        names = listed(list(map(str, classes)), 10)
        raise UserError(f"label {labels[codes.argmin()]}: not among the classes {names}")
    return torch.from_numpy(codes.astype(np.int64, copy=False))


def runtime_used(names: Sequence[str], runtime: Runtime) -> Runtime:
    """The runtime, or a CPU in fp32 where no estimator of these names is a network."""
    if any(name in NETWORKS for name in names):
        return runtime
    cpu = torch.device("cpu")
    return dataclasses.replace(runtime, device=cpu, precision="fp32", compile=False)


def describe_devices(names: Sequence[str], runtime: Runtime) -> str:
    """The device of the networks and the estimators on the CPU, for the first line of a script."""
    runtime = runtime_used(names, runtime)
    on_cpu = [name for name in names if name not in NETWORKS]
    if runtime.device.type == "cpu" or not on_cpu:
        return runtime.describe()
    return f"{runtime.describe()}; {', '.join(on_cpu)} on the CPU"
