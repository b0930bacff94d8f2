"""The report of an estimate: `estimate.json`, tables of quantities, samples, classes; figures."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mi_common.files import write_json
from mi_common.information import class_counts, entropy, log_prior_from_counts
from mi_common.tables import p_value, to_markdown, write_csv, write_tables
from mi_estimator.estimators.crossfit import CrossFit
from mi_estimator.estimators.neighbours import NeighbourFit
from mi_estimator.plots import plot_calibration, plot_pointwise_by_class


def summary(
    fit: CrossFit | NeighbourFit, *, miller_madow: bool = False, p_value: float | None = None
) -> dict:
    """The content of estimate.json, in nats; None where neighbours have no such value.

    With `miller_madow`, H(Y) is higher by (K - 1) / 2N; see `CrossFit.with_miller_madow`.
    """
    estimate, crossed = fit.estimate(), isinstance(fit, CrossFit)
    counts = class_counts(fit.labels, int(fit.labels.max()) + 1)
    frequencies = log_prior_from_counts(counts, dtype=torch.float64)
    log_prior = fit.log_prior if crossed else frequencies
    label_entropy = entropy(log_prior).item()
    if miller_madow:
        label_entropy += (len(counts) - 1) / (2 * len(fit.labels))
    return {
        "mutual_information": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "mutual_information_bits": estimate.value / math.log(2),
        "label_entropy": label_entropy,
        "share_of_label_entropy": estimate.value / label_entropy,
        "training_value": fit.training_value if crossed else None,
        "accuracy": fit.accuracy if crossed else None,
        "majority_accuracy": log_prior.exp().max().item(),
        "p_value": p_value,
        "samples": len(fit.labels),
        "classes": len(counts),
        "weights": fit.weights if crossed else {},
        "skipped": fit.skipped if crossed else {},
    }


def sample_table(fit: CrossFit | NeighbourFit, names: list[str], rows: np.ndarray) -> pd.DataFrame:
    """One line per sample: the content of pmi.csv; `rows` are their positions in the data."""
    names = np.array(names)
    columns = {"sample": rows, "label": names[fit.labels.numpy()]}
    if isinstance(fit, CrossFit):
        columns["predicted"] = names[fit.log_posterior.argmax(dim=1).numpy()]
        columns["fold"] = fit.folds.numpy()
    return pd.DataFrame(columns | {"pmi_nats": fit.pointwise.numpy()})


def class_table(fit: CrossFit | NeighbourFit, names: list[str]) -> pd.DataFrame:
    """One line per class: its mean pointwise mutual information and its share of the estimate."""
    lines = []
    for k, name in enumerate(names):
        in_class = fit.labels == k
        mean = fit.pointwise[in_class].mean().item()
        line = {"class": name, "samples": int(in_class.sum()), "mean_pmi": mean}
        if isinstance(fit, CrossFit):
            line["contribution"] = (fit.class_weights[k] * in_class.sum()).item() * mean
            correct = fit.log_posterior[in_class].argmax(dim=1) == k
            line["accuracy"] = correct.double().mean().item()
        else:
            line["contribution"] = in_class.double().mean().item() * mean
        lines.append(line)
    return pd.DataFrame(lines)


def result_table(result: dict) -> pd.DataFrame:
    """The printed table: quantities and their values, in nats and bits."""

    def both(value: float) -> str:
        return f"{value:.4f} nats ({value / math.log(2):.4f} bits)"

    lines = {
        "mutual information": both(result["mutual_information"]),
        "95 % interval": f"{result['lower']:.4f} to {result['upper']:.4f} nats",
        "label entropy H(Y)": both(result["label_entropy"]),
        "I / H(Y)": f"{100 * result['share_of_label_entropy']:.1f} %",
    }
    if result["training_value"] is not None:
        lines["on training samples"] = both(result["training_value"])
        lines["out-of-fold accuracy"] = f"{100 * result['accuracy']:.2f} %"
    lines["majority class"] = f"{100 * result['majority_accuracy']:.2f} %"
    lines["samples, classes"] = f"{result['samples']}, {result['classes']}"
    if result["p_value"] is not None:
        lines["p-value of independence"] = p_value(result["p_value"])
    return pd.DataFrame(lines.items(), columns=["quantity", "value"])


def write_estimate(
    fit: CrossFit | NeighbourFit,
    result: dict,
    class_names: list[str],
    folder: Path,
    *,
    rows: np.ndarray,
) -> None:
    """Prints the estimate and writes its files; `rows` as in `sample_table`."""
    samples, classes = sample_table(fit, class_names, rows), class_table(fit, class_names)
    write_csv(samples, folder / "pmi.csv")
    write_csv(classes, folder / "classes.csv")
    plot_pointwise_by_class(samples, class_names, folder / "pmi_by_class.png")
    figures = "pmi_by_class.png"
    if isinstance(fit, CrossFit):
        plot_calibration(fit.log_ratio, fit.labels, folder / "calibration.png")
        figures += ", calibration.png"
    write_tables(result_table(result), folder / "table")
    write_json(folder / "estimate.json", result)
    print(to_markdown(result_table(result)))
    if len(classes) <= 20:
        print(to_markdown(classes))
    if shares := {name: w for name, w in result["weights"].items() if w >= 0.01}:
        pairs = [(name, f"{weight:.2f}") for name, weight in shares.items()]
        print(to_markdown(pd.DataFrame(pairs, columns=["classifier in the mixture", "weight"])))
    for name, reason in result["skipped"].items():
        reason = reason.removeprefix(f"{name.split(': ')[-1]}: ")
        print(f"not in the mixture of every fold: {name}: {reason}")
    print(f"wrote to {folder}: estimate.json, table.md, table.tex, pmi.csv, classes.csv, {figures}")
