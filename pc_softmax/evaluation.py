"""Scores of one run under a target prior."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.files import write_json
from mi_common.tables import to_markdown, write_csv, write_tables
from pc_softmax import metrics, priors
from pc_softmax.names import ESTIMATED_PRIORS
from pc_softmax.plots import plot_confusion, plot_reliability
from pc_softmax.predictions import Predictions


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


_number = "{:.4f}".format
# Scores in table.md, in this order: column of scores.csv -> name and format.
SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "n_test": ("samples", str),
    "accuracy": ("accuracy", _percent),
    "majority_accuracy": ("accuracy of the majority class", _percent),
    "balanced_accuracy": ("balanced accuracy", _percent),
    "worst_class_accuracy": ("worst class", _percent),
    "macro_f1": ("macro-F1", _percent),
    "many_shot_accuracy": ("many-shot classes, > 100 training samples", _percent),
    "medium_shot_accuracy": ("medium-shot classes, 20 to 100", _percent),
    "few_shot_accuracy": ("few-shot classes, < 20", _percent),
    "nll": ("NLL, nats", _number),
    "brier": ("Brier score", _number),
    "ece": ("ECE, 15 bins", _percent),
    "mutual_information": ("mutual information under test label frequencies, nats", _number),
    "mi_lower": ("95 % interval, from", _number),
    "mi_upper": ("95 % interval, to", _number),
    "label_entropy": ("H(Y) of the test labels, nats", _number),
    "prior_total_variation": ("total variation, estimated prior to test labels", _number),
}


@dataclass(frozen=True)
class Evaluation:
    """One test set under one target prior.

    Attributes:
        prior: (K,) the target prior.
        scores: the row of scores.csv, without the names of test set and target prior.
        confusion: (K, K) counts, true classes in rows.
        calibration: of `metrics.calibration_table`.
        log_posterior: (N, K).
    """

    prior: np.ndarray
    scores: dict[str, float]
    confusion: np.ndarray
    calibration: pd.DataFrame
    log_posterior: np.ndarray


def evaluate(predictions: Predictions, test_set: str, target: str) -> Evaluation:
    """Scores one test set; errors as in `Adapter.target_log_prior`."""
    logits, labels = predictions.test_logits[test_set], predictions.tests[test_set][1]
    adapted = predictions.adapter.adapt(logits, target)
    log_prior, log_posterior = adapted.log_prior, adapted.log_posterior
    confusion = metrics.confusion_counts(log_posterior, labels)
    calibration = metrics.calibration_table(log_posterior, labels)
    scores = {
        "n_test": len(labels),
        **metrics.confusion_scores(confusion),
        "macro_f1": metrics.macro_f1(confusion),
        **metrics.probability_scores(log_posterior, labels),
        "ece": metrics.expected_calibration_error(calibration),
        **metrics.shot_accuracies(confusion, predictions.counts),
        "majority_accuracy": metrics.majority_scores(predictions.log_prior, labels)["accuracy"],
        **metrics.mutual_information(logits, labels),
    }
    prior = np.exp(log_prior)
    if adapted.target in ESTIMATED_PRIORS:
        truth = priors.label_frequencies(labels, len(prior))
        scores["prior_total_variation"] = priors.total_variation(prior, truth)
    return Evaluation(prior, scores, confusion, calibration, log_posterior)


def notes(predictions: Predictions, test_sets: list[str], target: str, *, shift: bool) -> list[str]:
    """What to know before trusting the scores, each once; with `shift`, of estimated priors too."""
    smallest = min(len(predictions.tests[name][1]) for name in test_sets)
    targets = [target, "em"] if shift else [target]
    by_target = [predictions.adapter.notes(name, smallest) for name in targets]
    return list(dict.fromkeys(itertools.chain(*by_target)))


def shown_scores(evaluations: dict[str, Evaluation], target: str) -> pd.DataFrame:
    """The table of scores: one row per score, one column per test set."""
    rows = [{"score": "target prior"} | dict.fromkeys(evaluations, target)]
    for key, (name, text) in SHOWN.items():
        scores = {test_set: e.scores.get(key) for test_set, e in evaluations.items()}
        if any(score is not None for score in scores.values()):
            cells = {k: "" if score is None else text(score) for k, score in scores.items()}
            rows.append({"score": name} | cells)
    return pd.DataFrame(rows)


def write_evaluation(
    evaluations: dict[str, Evaluation], predictions: Predictions, target: str, folder: Path
) -> None:
    """Prints the scores by test set; writes all files but those of the shift and result.json."""
    names, counts = predictions.unique_names, predictions.counts
    scores = [{"test_set": k, "target_prior": target} | e.scores for k, e in evaluations.items()]
    confusions = {k: e.confusion for k, e in evaluations.items()}
    tables = {k: metrics.class_table(c, counts, names) for k, c in confusions.items()}
    per_class = pd.concat(tables, names=["test_set"]).reset_index("test_set")
    true_class = pd.Index(names, name="true_class")
    frames = {k: pd.DataFrame(c, true_class, names) for k, c in confusions.items()}
    write_csv(pd.DataFrame(scores), folder / "scores.csv")
    write_csv(per_class, folder / "per_class.csv")
    write_csv(pd.concat(frames, names=["test_set"]), folder / "confusion.csv", index=True)
    plot_confusion(confusions, names, folder / "confusion.png")
    plot_reliability({k: e.calibration for k, e in evaluations.items()}, folder / "reliability.png")
    shown = shown_scores(evaluations, target)
    write_tables(shown, folder / "table")
    print("\n" + to_markdown(shown))


def write_result(
    evaluations: dict[str, Evaluation], predictions: Predictions, target: str, folder: Path
) -> None:
    """Writes result.json; a score that is not finite, such as an infinite NLL, becomes null."""
    test_sets = {}
    for name, evaluation in evaluations.items():
        scores = {k: v if math.isfinite(v) else None for k, v in evaluation.scores.items()}
        prior = dict(zip(predictions.unique_names, evaluation.prior.tolist(), strict=True))
        test_sets[name] = scores | {"prior": prior}
    calibration = predictions.adapter.calibration
    result = {
        "target_prior": target,
        "calibration": {
            "name": calibration.name,
            "scale": calibration.scale,
            "bias": calibration.bias.tolist(),
        },
        "uses_test_labels": ["mutual_information", "label_entropy", "prior_total_variation"],
        "test_sets": test_sets,
    }
    write_json(folder / "result.json", result)
