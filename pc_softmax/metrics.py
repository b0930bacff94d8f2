"""Scores of saved predictions; fractions of one."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, recall_score

from common.errors import UserError

SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]


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


def load_predictions(path: Path) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The training set's (K,) log prior, and (N, K) logits and (N,) labels by test set.

    Args:
        path: a `predictions.npz`.

    Raises:
        UserError: the file is not there.
    """
    if not path.exists():
        raise UserError(f"{path}: not there; run again with --overwrite")
    with np.load(path) as arrays:
        names = [name.removesuffix("_logits") for name in arrays if name.endswith("_logits")]
        tests = {name: (arrays[f"{name}_logits"], arrays[f"{name}_labels"]) for name in names}
        return arrays["log_prior"], tests


def scores_table(test_sets: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One line a test set, scores in percent."""
    lines = []
    for name, scores in test_sets.items():
        line = {"test set": name, "n": scores["n_test"]}
        lines.append(line | {score: f"{100 * scores[score]:.2f} %" for score in SCORES})
    return pd.DataFrame(lines)
