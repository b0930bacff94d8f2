"""Accuracy of each target prior on subsets of a test set with shifted class priors."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score
from tqdm import tqdm

from mi_common.errors import UserError
from mi_common.tables import (
    formatted,
    mean_with_interval,
    number,
    summarise,
    to_markdown,
    write_csv,
    write_tables,
)
from pc_softmax import priors, shifts
from pc_softmax.names import ESTIMATED_PRIORS, TARGET_PRIORS, VALIDATION_PRIORS
from pc_softmax.plots import plot_shift
from pc_softmax.predictions import Predictions

ORACLE = "oracle: known prior"
SETTING = ["shift", "ratio"]
DISTANCE = "_total_variation"


def shift_table(
    predictions: Predictions, test_set: str, generator: np.random.Generator, *, resamples: int
) -> tuple[pd.DataFrame, Counter[str]]:
    """Accuracies and errors of the prior, one row for each shift and resample of the test set.

    A resample draws the images of each class with replacement, as many as there are, and from these
    the subset with the shifted prior. The oracle knows the label frequencies of the subset. The
    total variation is the distance of an estimated prior to them.

    The test set must hold every class. Returns the rows of shift.csv and how many estimates failed
    for each reason; their accuracy is NaN.
    """
    logits, labels = predictions.test_logits[test_set], predictions.tests[test_set][1]
    adapter, failures, rows = predictions.adapter, Counter(), []
    without = ("auto", *(VALIDATION_PRIORS if predictions.validation is None else ()))
    targets = [name for name in TARGET_PRIORS if name not in without]  # auto is one of the others
    settings = list(shifts.label_shifts(predictions.counts, generator))
    with tqdm(total=len(settings) * resamples, desc="subsets", disable=None) as progress:
        for shift, ratio, shifted in settings:
            for resample in range(resamples):
                drawn = shifts.resample(labels, generator)
                subset = drawn[shifts.sample_shifted(labels[drawn], shifted, generator)]
                row = {"shift": shift, "ratio": ratio, "resample": resample, "n": len(subset)}
                truth = priors.label_frequencies(labels[subset], logits.shape[1])
                distances = {}
                for target in (*targets, ORACLE):
                    try:
                        if target == ORACLE:
                            adapted = adapter.under(logits[subset], target, np.log(truth))
                        else:
                            adapted = adapter.adapt(logits[subset], target)
                        predicted = adapted.log_posterior.argmax(axis=1)
                        row[target] = accuracy_score(labels[subset], predicted)
                        distance = priors.total_variation(np.exp(adapted.log_prior), truth)
                    except UserError as error:
                        failures[str(error)] += 1
                        row[target] = distance = np.nan
                    if target in ESTIMATED_PRIORS:
                        distances[target + DISTANCE] = distance
                rows.append(row | distances)
                progress.update()
    return pd.DataFrame(rows), failures


def methods(rows: pd.DataFrame) -> list[str]:
    """The columns of shift.csv with accuracies."""
    return [name for name in rows.columns[4:] if not name.endswith(DISTANCE)]


def shown_shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in percent and total variations, mean ± half the 95 % interval over resamples."""
    accuracies = methods(rows)
    distances = [name for name in rows.columns if name.endswith(DISTANCE)]
    percent = rows.assign(ratio=rows["ratio"].round().astype(int), seed=rows["resample"])
    percent[accuracies] *= 100
    options = {"varying": ("n", "resample"), "allow_missing": True}  # a method may fail on some
    summary = summarise(percent, SETTING, accuracies + distances, **options)
    table = formatted(summary, accuracies)
    table = formatted(table, distances, digits=4).drop(columns="n")
    table.insert(2, "n", percent.groupby(SETTING, sort=False)["n"].first().to_numpy())
    return table.replace("nan", "")


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Gains on the argmax in points: their mean over all shifts, and the least shift's.

    The gain of a shift is the mean over resamples of differences on the same subset; the least one
    has half the 95 % interval of that mean, and its place. A method that fails everywhere is left
    out.
    """
    table = []
    for method in methods(rows):
        difference = (100 * (rows[method] - rows["argmax"])).dropna()
        if method == "argmax" or difference.empty:
            continue
        by_shift = difference.groupby([rows["shift"], rows["ratio"]], sort=False)
        means = by_shift.mean()
        shift, ratio = place = means.idxmin()
        line = {"target prior": method, "mean gain": number(means.mean(), 2, sign=True)}
        line["least gain"] = mean_with_interval(by_shift.get_group(place), 2, sign=True)
        table.append(line | {"at": f"{shift}, {ratio:.0f}"})
    return pd.DataFrame(table)


def write_shift(rows: pd.DataFrame, failures: Counter[str], test_set: str, folder: Path) -> None:
    """Prints the tables of shifts and gains, and writes them with their figure."""
    shown, gained = shown_shifts(rows), gains(rows)
    write_csv(rows, folder / "shift.csv")
    write_tables(shown, folder / "shift")
    write_tables(gained, folder / "shift_gains")
    means = rows.groupby(SETTING, sort=False).mean(numeric_only=True).reset_index()
    plot_shift(means, methods(rows), folder / "shift.png")
    resamples = rows["resample"].nunique()
    print(
        f"Accuracy in percent on subsets of {test_set} with shifted class priors: mean and half "
        f"the 95 % interval of {resamples} resamples."
    )
    if missing := [name for name in VALIDATION_PRIORS if name not in rows]:
        names = " and ".join(missing)
        print(f"Without {names}: they need validation samples (train with --val-fraction).")
    for reason, count in failures.items():
        print(f"No estimate in {count} of {len(rows)} subsets: {reason}")
    print("\n" + to_markdown(shown))
    print("Gain on the argmax in points:\n\n" + to_markdown(gained))
