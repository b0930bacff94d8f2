"""Scores of predictions; accuracies are fractions of one, information is in nats."""

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information
from pc_softmax.priors import label_frequencies

SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]
CALIBRATION_BINS = 15


def classification_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of the argmax of (N, K) logits against (N,) labels.

    Returns:
        accuracy, balanced_accuracy (mean of the accuracies of the classes that are there) and
        worst_class_accuracy.

    Raises:
        UserError: logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise UserError(f"{(~np.isfinite(logits)).any(axis=1).sum()} samples have no finite logits")
    recalls = per_class_accuracy(logits, labels, np.unique(labels))
    return {
        "accuracy": float(accuracy_score(labels, logits.argmax(axis=1))),
        "balanced_accuracy": float(recalls.mean()),
        "worst_class_accuracy": float(recalls.min()),
    }


def per_class_accuracy(logits: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Share of right argmax predictions among the samples of each of the given classes."""
    return recall_score(labels, logits.argmax(axis=1), labels=classes, average=None)


def majority_scores(log_prior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of always predicting the most frequent training class (the first of equals)."""
    return classification_scores(np.tile(log_prior, (len(labels), 1)), labels)


def posterior_scores(
    log_posterior: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> dict[str, float]:
    """Scores of a posterior: its argmax, and its probabilities.

    Args:
        log_posterior: (N, K) log probabilities.
        labels: (N,).
        counts: (K,) training samples of each class.

    Returns:
        Those of `classification_scores`; macro_f1, the mean F1 of the classes that are there;
        nll in nats; brier, the squared distance to the one-hot label, from 0 to 2 (Brier 1950);
        ece (`expected_calibration_error`); and `shot_accuracies`.
    """
    posterior = np.exp(log_posterior)
    rows = np.arange(len(labels))
    label_probability = posterior[rows, labels]
    brier = (posterior**2).sum(axis=1) - label_probability**2 + (1 - label_probability) ** 2
    present = np.unique(labels)
    predicted = posterior.argmax(axis=1)
    return {
        **classification_scores(posterior, labels),
        "macro_f1": float(
            f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
        ),
        "nll": float(-log_posterior[rows, labels].mean()),
        "brier": float(brier.mean()),
        "ece": expected_calibration_error(log_posterior, labels),
        **shot_accuracies(posterior, labels, counts),
    }


def shot_accuracies(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Mean accuracy of the classes with many (> 100), medium (20 to 100) and few training samples.

    The groups are those of Liu et al. 2019 (open long-tailed recognition); a group that has no
    class in the test set is left out.
    """
    classes = np.unique(labels)
    accuracies, sizes = per_class_accuracy(logits, labels, classes), counts[classes]
    groups = {
        "many_shot_accuracy": sizes > 100,
        "medium_shot_accuracy": (sizes >= 20) & (sizes <= 100),
        "few_shot_accuracy": sizes < 20,
    }
    return {name: float(accuracies[own].mean()) for name, own in groups.items() if own.any()}


def calibration_table(log_posterior: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Samples by the probability of the predicted class, in 15 bins of equal width.

    Columns count, confidence (mean probability of the predicted class) and accuracy, which are NaN
    in an empty bin. Bin b holds probabilities above b / 15 up to (b + 1) / 15.
    """
    confidence = np.exp(log_posterior.max(axis=1))
    right = log_posterior.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    grouped = pd.DataFrame({"confidence": confidence, "accuracy": right}).groupby(bins)
    table = grouped.mean().reindex(range(CALIBRATION_BINS))
    table.insert(0, "count", np.bincount(bins, minlength=CALIBRATION_BINS))
    return table


def expected_calibration_error(log_posterior: np.ndarray, labels: np.ndarray) -> float:
    """ECE of the predicted class (Naeini et al. 2015, Guo et al. 2017), from 0 to 1.

    The sum over the bins b of `calibration_table` of count_b / N * |accuracy_b - confidence_b|.
    """
    table = calibration_table(log_posterior, labels)
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["count"]).sum() / len(labels))


def mutual_information(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mutual information that PC-softmax logits show in a test set, in nats.

    It is the mean of f_y - log sum_k q(k) exp f_k, with q the test set's own label frequencies:
    H(q) minus the cross-entropy of the posterior under q.

    Args:
        logits: (N, K) PC-softmax logits.
        labels: (N,).

    Returns:
        mutual_information, and mi_lower, mi_upper, the normal 95 % interval of that mean (NaN for
        one sample); label_entropy, H(q), its cap.
    """
    frequencies = label_frequencies(labels, logits.shape[1])
    with np.errstate(divide="ignore"):
        log_frequencies = torch.from_numpy(np.log(frequencies))
    every = pointwise_mutual_information(torch.from_numpy(logits), log_frequencies).numpy()
    values = every[np.arange(len(labels)), labels]
    error = stats.sem(values) if len(values) > 1 else np.nan
    half_width = stats.norm.ppf(0.975) * error
    return {
        "mutual_information": float(values.mean()),
        "mi_lower": float(values.mean() - half_width),
        "mi_upper": float(values.mean() + half_width),
        "label_entropy": float(stats.entropy(frequencies)),
    }


def per_class_table(
    log_posterior: np.ndarray, labels: np.ndarray, counts: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """A line a class: training samples, test samples, accuracy and precision.

    NaN stands for the accuracy of a class without test samples, and for the precision of one that
    is never predicted.
    """
    precision, recall, _, support = precision_recall_fscore_support(
        labels, log_posterior.argmax(axis=1), labels=np.arange(len(counts)), zero_division=np.nan
    )
    return pd.DataFrame(
        {
            "class": class_names,
            "train_count": counts,
            "n": support,
            "accuracy": recall,
            "precision": precision,
        }
    )


def scores_table(test_sets: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One line a test set, scores in percent."""
    lines = []
    for name, scores in test_sets.items():
        line = {"test set": name, "n": scores["n_test"]}
        lines.append(line | {score: f"{100 * scores[score]:.2f} %" for score in SCORES})
    return pd.DataFrame(lines)
