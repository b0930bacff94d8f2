"""The work of `pc_softmax.adjust`: decisions, priors and scores of logits from a file."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.files import save_arrays, write_json
from mi_common.tables import write_csv
from pc_softmax import evaluation
from pc_softmax.decisions import Decisions, decide, write_decisions
from pc_softmax.logit_files import SPLIT, Logits
from pc_softmax.names import TARGET_PRIORS
from pc_softmax.predictions import Predictions
from pc_softmax.priors import posterior_under


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """Decisions under one prior, other priors beside it, and scores where there are labels.

    Attributes:
        decisions: of all samples under the target prior.
        log_posterior: (N, K) float32.
        priors: a row per class, a column for each prior.
        failures: why an estimator has no column, by name.
        evaluation: None without labels.
    """

    predictions: Predictions
    target: str
    decisions: Decisions
    log_posterior: np.ndarray
    priors: pd.DataFrame
    failures: dict[str, str]
    evaluation: evaluation.Evaluation | None


def adjust(
    predictions: Predictions, logits: Logits, *, target: str, replicates: int, seed: int
) -> Adjustment:
    """UserErrors are those of `Adapter.target_log_prior` for the target prior."""
    pc_logits = predictions.test_logits[SPLIT]
    options = {"replicates": replicates, "seed": seed}
    files = logits.files or list(map(str, range(len(pc_logits))))
    decisions = decide(predictions, pc_logits, files, target=target, **options)
    priors, failures = {"class": predictions.unique_names}, {}
    for name in dict.fromkeys((*TARGET_PRIORS, target)):
        try:
            priors[name] = np.exp(predictions.adapter.target_log_prior(name, pc_logits))
        except UserError as error:
            failures[name] = str(error)
    evaluated = None
    if logits.labels is not None:
        evaluated = evaluation.evaluate(predictions, SPLIT, target)
    decision_logits = predictions.adapter.decision_logits(pc_logits, target)
    log_posterior = posterior_under(decision_logits, decisions.log_prior).astype(np.float32)
    frame = pd.DataFrame(priors)
    return Adjustment(predictions, target, decisions, log_posterior, frame, failures, evaluated)


def write_adjustment(adjusted: Adjustment, folder: Path) -> None:
    """Prints the class frequencies and the scores; writes all files, result.json last."""
    predictions, target = adjusted.predictions, adjusted.target
    write_decisions(predictions, adjusted.decisions, folder)
    names = predictions.unique_names
    save_arrays(folder / "posterior.npz", log_posterior=adjusted.log_posterior, class_names=names)
    write_csv(adjusted.priors, folder / "priors.csv")
    for name, reason in adjusted.failures.items():
        print(f"no {name} in priors.csv: {reason}")
    if adjusted.evaluation is None:
        result = {"target_prior": target, "n": len(adjusted.log_posterior)}
        write_json(folder / "result.json", result | adjusted.decisions.summary)
    else:
        evaluations = {SPLIT: adjusted.evaluation}
        evaluation.write_evaluation(evaluations, predictions, target, folder)
        evaluation.write_result(evaluations, predictions, target, folder)
    scores = "" if adjusted.evaluation is None else ", scores.csv, per_class.csv, confusion.csv"
    written = "predictions.csv, posterior.npz, class_frequencies.csv, priors.csv" + scores
    print(f"wrote {folder}: {written}")
