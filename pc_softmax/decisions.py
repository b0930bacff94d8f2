"""What a classifier says of unlabelled samples: classes with probabilities, class frequencies."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import special
from tqdm import tqdm

from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information
from mi_common.tables import to_markdown, write_csv
from pc_softmax.names import ESTIMATED_PRIORS
from pc_softmax.predictions import Predictions
from pc_softmax.priors import posterior_under

MAX_LISTED = 10  # unreadable files
SHOWN = 10  # classes in the printed table
TOP = 5  # classes of a sample in the table
SHARED = 10  # resamples of the samples for each of the validation samples
ROWS = 10_000  # whose posteriors are in memory at once


def decision_table(
    logits: np.ndarray, log_prior: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """One row per sample: its most likely classes under a class prior.

    (N, K) logits of `Adapter.decision_logits` and the (K,) log prior t. Columns: `class` and its
    `probability` p_t(k | x); `entropy` of p_t( . | x) and `pmi`, the log of p_t(k | x) / t(k), in
    nats; `class_2` and `probability_2` up to `class_5` and `probability_5`, fewer if there are
    fewer classes.
    """
    names = np.array(class_names, dtype=object)
    parts = []
    for start in range(0, len(logits), ROWS):
        block = logits[start : start + ROWS].astype(np.float64)
        log_posterior = posterior_under(block, log_prior)
        order = np.argsort(-log_posterior, axis=1, kind="stable")[:, :TOP]
        ranked = np.exp(np.take_along_axis(log_posterior, order, axis=1))
        pmi = pointwise_mutual_information(*map(torch.from_numpy, (block, log_prior))).numpy()
        columns = {
            "class": names[order[:, 0]],
            "probability": ranked[:, 0],
            "entropy": special.entr(np.exp(log_posterior)).sum(axis=1),
            "pmi": np.take_along_axis(pmi, order[:, :1], axis=1)[:, 0],
        }
        for rank in range(1, order.shape[1]):
            columns[f"class_{rank + 1}"] = names[order[:, rank]]
            columns[f"probability_{rank + 1}"] = ranked[:, rank]
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def class_frequencies(
    predictions: Predictions,
    logits: np.ndarray,
    estimator: str,
    *,
    replicates: int,
    generator: np.random.Generator,
) -> tuple[pd.DataFrame, list[str]]:
    """Estimated share of each class among unlabelled samples, with a 95 % interval.

    The interval is the bootstrap's, between the 2.5 and 97.5 percentiles of the estimates from
    resampled samples. Validation samples, which calibration, BBSE and PACC rest on, are resampled
    too, class by class, once for `SHARED` resamples, as calibration takes the most time. It covers
    the sampling, not posteriors that are wrong.

    (N, K) PC-softmax logits and one of ESTIMATED_PRIORS -> a row per class with `train` (its share
    of the training data), `estimate`, `lower` and `upper` (NaN without replicates); and the reason
    of each resample without an estimate. UserErrors of `Adapter.target_log_prior`.
    """
    adapter = predictions.adapter
    estimate = np.exp(adapter.target_log_prior(estimator, logits))
    estimates, failures = [], []
    for start in tqdm(range(0, replicates, SHARED), desc="bootstrap", disable=None):
        size = min(SHARED, replicates - start), len(logits)
        draws, resampled = generator.integers(len(logits), size=size), adapter.resampled(generator)
        try:
            estimates.append(resampled.resampled_priors(estimator, logits, draws, estimate))
        except UserError as error:
            failures += [str(error)] * len(draws)
    interval = np.full((2, len(estimate)), np.nan)
    if estimates:
        interval = np.percentile(np.concatenate(estimates), [2.5, 97.5], axis=0)
    columns = {"class": predictions.unique_names, "train": np.exp(predictions.log_prior)}
    columns |= {"estimate": estimate, "lower": interval[0], "upper": interval[1]}
    return pd.DataFrame(columns), failures


@dataclasses.dataclass(frozen=True)
class Decisions:
    """What is said of unlabelled samples under one class prior.

    Attributes:
        log_prior: (K,) the target prior.
        estimator: of the class frequencies.
        rows: a `decision_table` with the column `file` before it.
        frequencies: of `class_frequencies`.
        failures: why resamples have no estimate.
        notes: of `Adapter.notes`.
    """

    log_prior: np.ndarray
    estimator: str
    rows: pd.DataFrame
    frequencies: pd.DataFrame
    failures: list[str]
    notes: list[str]

    @property
    def summary(self) -> dict:
        """For result.json."""
        return {"estimator": self.estimator, "failed_resamples": len(self.failures)}


def decide(
    predictions: Predictions,
    logits: np.ndarray,
    files: list[str],
    *,
    target: str,
    replicates: int,
    seed: int,
) -> Decisions:
    """Decisions on (N, K) PC-softmax logits; errors of `Adapter.target_log_prior`.

    The class frequencies are those of EM if the target prior is not an estimate: also where `auto`
    is the argmax.
    """
    adapter = predictions.adapter
    resolved = adapter.resolved(target)
    estimator = resolved if resolved in ESTIMATED_PRIORS else "em"
    log_prior = adapter.target_log_prior(target, logits)
    decision_logits = adapter.decision_logits(logits, target)
    rows = decision_table(decision_logits, log_prior, predictions.unique_names)
    rows.insert(0, "file", files)
    options = {"replicates": replicates, "generator": np.random.default_rng(seed)}
    frequencies, failures = class_frequencies(predictions, logits, estimator, **options)
    shares = rows["class"].value_counts(normalize=True)
    names = predictions.unique_names
    frequencies.insert(2, "target_prior", np.exp(log_prior))
    frequencies.insert(3, "predicted", shares.reindex(names, fill_value=0).to_numpy())
    by_target = [adapter.notes(name, len(logits)) for name in (target, estimator)]
    notes = list(dict.fromkeys(itertools.chain(*by_target)))
    return Decisions(log_prior, estimator, rows, frequencies, failures, notes)


def write_decisions(predictions: Predictions, decisions: Decisions, folder: Path) -> None:
    """Writes predictions.csv and class_frequencies.csv; prints the most frequent classes."""
    write_csv(decisions.rows, folder / "predictions.csv")
    write_csv(decisions.frequencies, folder / "class_frequencies.csv")
    for note in decisions.notes:
        print(f"Note: {note}.")
    shown = decisions.frequencies.sort_values("estimate", ascending=False, kind="stable")
    largest = f", the {SHOWN} largest of {len(shown)}" if len(shown) > SHOWN else ""
    source = "" if predictions.adapter.calibrates else ", from logits that nothing calibrates"
    print(f"\nClass frequencies, estimated by {decisions.estimator}{source}{largest}\n")
    print(to_markdown(shown.head(SHOWN)))
    if failures := decisions.failures:
        print(f"No estimate for {len(failures)} resamples, such as: {failures[0]}")


def write_unreadable(unreadable: list[tuple[Path, str]], folder: Path) -> None:
    """Writes unreadable.csv, and prints its first lines."""
    rows = [(str(path), reason) for path, reason in unreadable]
    write_csv(pd.DataFrame(rows, columns=["file", "reason"]), folder / "unreadable.csv")
    for path, reason in unreadable[:MAX_LISTED]:
        print(f"left out {path}: {reason}")
    if len(unreadable) > MAX_LISTED:
        print(f"and {len(unreadable) - MAX_LISTED} more in {folder}/unreadable.csv")
