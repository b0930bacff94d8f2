"""Figures: estimates and exact values, errors, pointwise mutual information, calibration."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.calibration import calibration_curve
from torch import Tensor

from mi_common.plots import plain, save_figure, styles


def plot_estimates(rows: pd.DataFrame, path: Path) -> None:
    """Above, estimates and the exact value of each task; below, their difference, in nats.

    Each row of results.csv is a dot with its 95 % interval. Values beyond the axes are drawn on the
    border. The lower scale is logarithmic beyond a tenth of a nat.
    """
    tasks = list(dict.fromkeys(rows["task"]))
    estimators = list(dict.fromkeys(rows["estimator"]))
    truth = rows.groupby("task")["truth"].first()[tasks].to_numpy()
    positions, low, high = np.arange(len(tasks)), -0.1 * truth.max(), 1.3 * truth.max() + 0.01
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(1 + 1.1 * len(tasks), 6), height_ratios=[3, 2]
    )
    top.bar(positions, truth, width=0.9, color="0.85", label="exact")
    top.set_ylim(low, high)
    bottom.axhline(0, color="0.4", linewidth=1)
    for number, (estimator, style) in enumerate(zip(estimators, styles(), strict=False)):
        cells = rows[rows["estimator"] == estimator]
        shift = (number - (len(estimators) - 1) / 2) * 0.7 / len(estimators)
        x = np.array([tasks.index(task) for task in cells["task"]]) + shift
        x = x + 0.03 * (cells["seed"].rank(method="dense").to_numpy() - 1)
        half_width, style = (cells["upper"] - cells["lower"]) / 2, {**style, "markersize": 4}
        top.plot(x, cells["estimate"].clip(low, high), linestyle="", label=estimator, **style)
        error = (cells["estimate"] - cells["truth"]).clip(-high, high)
        bottom.errorbar(x, error, half_width, linestyle="", elinewidth=1, **style)
    if (rows["estimate"] - rows["truth"]).abs().max() > 0.1:
        bottom.set_yscale("symlog", linthresh=0.1)
        bottom.set_ylim(-high, high)
    top.set_ylabel("mutual information (nats)")
    bottom.set_ylabel("estimate − exact (nats)")
    bottom.set_xticks(positions, tasks, rotation=30, ha="right")
    columns = min(len(estimators) + 1, max(2, len(tasks) // 2))
    top.legend(frameon=False, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1))
    save_figure(figure, path)


def plot_estimates_against_truth(rows: pd.DataFrame, path: Path) -> None:
    """One dot per row: the estimate over the exact value; the diagonal shows equality.

    Estimates beyond the axes are drawn on the border.
    """
    figure, axes = plt.subplots(figsize=(6.5, 5))
    high = 1.1 * rows["truth"].max() + 0.01
    axes.plot([0, high], [0, high], color="0.7", linewidth=1)
    groups = rows.groupby("estimator", sort=False)
    for (estimator, cells), style in zip(groups, styles(), strict=False):
        shown = cells["estimate"].clip(-0.1 * high, 1.2 * high)
        axes.plot(
            cells["truth"], shown, linestyle="", markersize=4, alpha=0.7, label=estimator, **style
        )
    axes.set(xlabel="exact mutual information (nats)", ylabel="estimate (nats)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def plot_error_against(rows: pd.DataFrame, column: str, path: Path) -> None:
    """Root mean square error of each estimator over a column, both on logarithmic scales.

    Over `n_train`, each size is a dot and lines join the sizes of an estimator; over `seconds`,
    each estimator is one dot at its mean time.
    """
    labels = {"n_train": "training samples", "seconds": "seconds a cell, mean"}
    rows = rows.assign(square=(rows["estimate"] - rows["truth"]) ** 2)
    figure, axes = plt.subplots(figsize=(7, 4))
    groups = rows.groupby("estimator", sort=False)
    for (estimator, cells), style in zip(groups, styles(), strict=False):
        by = cells["n_train"] if column == "n_train" else cells["estimator"]
        means = cells.groupby(by)[["square", "seconds"]].mean()
        x = means.index if column == "n_train" else means["seconds"]
        axes.plot(x, np.sqrt(means["square"]), linestyle="-", label=estimator, **style)
    axes.set(xscale="log", yscale="log", xlabel=labels[column], ylabel="RMSE (nats)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def plot_pointwise_by_class(rows: pd.DataFrame, classes: list[str], path: Path) -> None:
    """Pointwise mutual information of the rows of pmi.csv, a box for each of at most 50 classes."""
    shown = classes[:50]
    figure, axes = plt.subplots(figsize=(2 + 0.4 * len(shown), 4))
    values = [rows.loc[rows["label"] == name, "pmi_nats"] for name in shown]
    axes.boxplot(values, showfliers=len(rows) < 5000, flierprops={"markersize": 3})
    axes.axhline(0, color="0.6", linewidth=1)
    axes.set_xticks(range(1, len(shown) + 1), list(map(plain, shown)), rotation=30, ha="right")
    axes.set_ylabel("pointwise MI (nats)")
    axes.set_title(f"samples by class{' (first 50)' if len(classes) > 50 else ''}")
    save_figure(figure, path)


def plot_calibration(log_posterior: Tensor, labels: Tensor, path: Path) -> None:
    """Frequency of a class over its predicted probability, all classes together.

    (N, K) out-of-fold log probabilities and (N,) labels.
    """
    probability = log_posterior.exp().clamp(max=1).flatten()  # rounding may exceed one
    true = torch.nn.functional.one_hot(labels, log_posterior.shape[1]).flatten()
    shares, means = calibration_curve(true, probability, n_bins=10)
    figure, axes = plt.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot(means, shares, "-o", markersize=5)
    axes.set(xlabel="predicted probability of a class", ylabel="share of samples of that class")
    save_figure(figure, path)
