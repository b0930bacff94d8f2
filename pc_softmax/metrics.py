"""Scores of predictions; accuracies are fractions, information is in nats."""

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix

from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information
from pc_softmax.priors import label_frequencies

SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]
CALIBRATION_BINS = 15


def confusion_counts(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K, K) counts of (N,) labels, in rows, and the argmax of (N, K) logits, in columns."""
    return confusion_matrix(labels, logits.argmax(axis=1), labels=np.arange(logits.shape[1]))


def class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """(K,) share of each class's samples that are predicted right; NaN without samples."""
    return _ratio(confusion.diagonal(), confusion.sum(axis=1))


def classification_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`confusion_scores` of the argmax of (N, K) logits; UserError if they are not finite."""
    _require_finite(logits)
    return confusion_scores(confusion_counts(logits, labels))


def confusion_scores(confusion: np.ndarray) -> dict[str, float]:
    """SCORES of a (K, K) confusion matrix; classes without test samples do not count.

    The balanced accuracy is the mean of the class accuracies.
    """
    accuracies = class_accuracies(confusion)
    accuracies = accuracies[~np.isnan(accuracies)]
    return {
        "accuracy": float(confusion.trace() / confusion.sum()),
        "balanced_accuracy": float(accuracies.mean()),
        "worst_class_accuracy": float(accuracies.min()),
    }


def majority_scores(log_prior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of always predicting the most frequent training class (the first of equals)."""
    return classification_scores(np.tile(log_prior, (len(labels), 1)), labels)


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 score of the classes with test samples."""
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return float(_ratio(2 * confusion.diagonal(), true + predicted)[true > 0].mean())


def shot_accuracies(confusion: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Mean accuracy of the classes with many (> 100), medium (20 to 100) and few training samples.

    The groups are those of Liu et al. 2019 (open long-tailed recognition). A group without test
    samples is left out. `counts` are the (K,) training samples of each class.
    """
    accuracies = class_accuracies(confusion)
    tested = ~np.isnan(accuracies)
    groups = {
        "many_shot_accuracy": tested & (counts > 100),
        "medium_shot_accuracy": tested & (counts >= 20) & (counts <= 100),
        "few_shot_accuracy": tested & (counts < 20),
    }
    return {
        name: float(accuracies[classes].mean()) for name, classes in groups.items() if classes.any()
    }


def class_table(confusion: np.ndarray, counts: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """One row per class: training samples, test samples, accuracy and precision.

    The accuracy of a class without test samples is NaN, as is the precision of a class that is
    never predicted.
    """
    return pd.DataFrame(
        {
            "class": class_names,
            "train_count": counts,
            "n": confusion.sum(axis=1),
            "accuracy": class_accuracies(confusion),
            "precision": _ratio(confusion.diagonal(), confusion.sum(axis=0)),
        }
    )


def probability_scores(log_posterior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """nll in nats, and brier: the squared distance to the one-hot label, 0 to 2 (Brier 1950).

    (N, K) log probabilities and (N,) labels; UserError if one is NaN.
    """
    posterior, rows = np.exp(log_posterior), np.arange(len(labels))
    _require_finite(posterior)
    label_probability = posterior[rows, labels]
    brier = (posterior**2).sum(axis=1) - label_probability**2 + (1 - label_probability) ** 2
    return {"nll": float(-log_posterior[rows, labels].mean()), "brier": float(brier.mean())}


def calibration_table(log_posterior: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Samples by the probability of the predicted class, in 15 bins of equal width.

    Bin b holds probabilities above b / 15 up to (b + 1) / 15. The columns are count, confidence
    (mean probability of the predicted class) and accuracy; the last two are NaN in an empty bin.
    """
    confidence = np.exp(log_posterior.max(axis=1))
    right = log_posterior.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    grouped = pd.DataFrame({"confidence": confidence, "accuracy": right}).groupby(bins)
    table = grouped.mean().reindex(range(CALIBRATION_BINS))
    table.insert(0, "count", np.bincount(bins, minlength=CALIBRATION_BINS))
    return table


def expected_calibration_error(table: pd.DataFrame) -> float:
    """ECE of the predicted class (Naeini et al. 2015, Guo et al. 2017), from 0 to 1.

    The sum over the bins b of a `calibration_table` of count_b / N * |accuracy_b - confidence_b|.
    """
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())


def mutual_information(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mutual information of image and label that a test set shows, in nats.

    It is the mean of f_y - log sum_k q(k) exp f_k, where f are (N, K) PC-softmax logits and q are
    the label frequencies of the test set: H(q) minus the cross-entropy of the posterior under q.
    The interval is the normal 95 % interval of that mean (NaN for one sample); label_entropy, H(q),
    is an upper bound.
    """
    frequencies = label_frequencies(labels, logits.shape[1])
    with np.errstate(divide="ignore"):
        log_frequencies = torch.from_numpy(np.log(frequencies))
    pmi = pointwise_mutual_information(torch.from_numpy(logits), log_frequencies).numpy()
    values = pmi[np.arange(len(labels)), labels]
    error = stats.sem(values) if len(values) > 1 else np.nan
    half_width = stats.norm.ppf(0.975) * error
    return {
        "mutual_information": float(values.mean()),
        "mi_lower": float(values.mean() - half_width),
        "mi_upper": float(values.mean() + half_width),
        "label_entropy": float(stats.entropy(frequencies)),
    }


def scores_table(test_sets: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One row per test set, scores in percent."""
    return pd.DataFrame(
        {"test set": name, "n": scores["n_test"]}
        | {score: f"{100 * scores[score]:.2f} %" for score in SCORES}
        for name, scores in test_sets.items()
    )


def _require_finite(values: np.ndarray) -> None:
    wrong = (~np.isfinite(values)).any(axis=1).sum()
    if wrong:
        raise UserError(f"{wrong} samples have no finite logits")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is zero."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
