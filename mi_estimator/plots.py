"""Figures: estimates and exact values, errors, pointwise mutual information, calibration."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm
from scipy import stats
from torch import Tensor

from mi_common.plots import plain, save_figure, styles

SAMPLES_A_BIN = 50  # of a reliability diagram, at least


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
    save_figure(figure, path, also_svg=True)


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

    Over `n_train`, each size is a dot and lines join the sizes of an estimator; give tasks with
    several sizes only. Over `seconds`, each estimator is one dot at its mean time.
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
    if column == "n_train":
        sizes = sorted(rows["n_train"].unique())
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, path)


def plot_errors(errors: pd.DataFrame, failed: pd.DataFrame, path: Path) -> None:
    """A heat map of root mean square errors, with the number in each cell.

    The colours end at 0.001 and 1 nat, whatever the values, so that figures can be compared. A
    frame and bold type mark the least error of a task and size, to three digits, the oracle's
    aside. A hatched cell has no estimate because all its runs failed; an empty one was not run.
    There is a line of cells for each task and size or, if these are fewer than the estimators, for
    each estimator: a page holds more lines than columns.

    Args:
        errors: in nats, a line per (task, n_train) and a column per estimator; NaN: no estimate.
        failed: the number of failed runs, in the same shape.
    """
    several = errors.index.get_level_values("n_train").nunique() > 1
    names = [f"{task}, {n_train:,}" if several else task for task, n_train in errors.index]
    errors, failed = errors.set_axis(names), failed.set_axis(names)
    least = errors.drop(columns="oracle", errors="ignore").min(axis=1).round(3)
    is_least = errors.round(3).eq(least, axis=0) & (errors.columns != "oracle")
    if errors.shape[1] > len(errors):
        errors, failed, is_least = errors.T, failed.T, is_least.T
    figure, axes = plt.subplots(figsize=(2.6 + 0.58 * errors.shape[1], 1.5 + 0.3 * len(errors)))
    norm = LogNorm(1e-3, 1)
    image = axes.imshow(errors.clip(norm.vmin, norm.vmax), cmap="Blues", norm=norm, aspect="auto")
    bar = figure.colorbar(image, extend="both", label="RMSE (nats)", pad=0.02, fraction=0.03)
    bar.set_ticks([0.001, 0.01, 0.1, 1], labels=["0.001", "0.01", "0.1", "1"])
    for (i, j), error in np.ndenumerate(errors.to_numpy()):
        box = plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, linewidth=2, zorder=3)
        if np.isnan(error):
            if failed.iloc[i, j]:
                box.set(hatch="////", edgecolor="0.5", linewidth=1)
                axes.add_patch(box)
            continue
        text = f"{error:.3f}" if error < 100 else f"{error:.0f}"
        weight = "bold" if is_least.iloc[i, j] else "normal"
        colour = "white" if norm(error) > 0.7 else "black"
        options = {"ha": "center", "va": "center", "fontsize": 9, "clip_on": True}
        axes.text(j, i, text, color=colour, fontweight=weight, **options)
        if is_least.iloc[i, j]:
            axes.add_patch(box)
    axes.set_yticks(range(len(errors)), errors.index)
    axes.set_xticks(range(errors.shape[1]), errors.columns, rotation=30, ha="right")
    save_figure(figure, path, dpi=130)  # a small file


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


def reliability(probability: np.ndarray, true: np.ndarray) -> pd.DataFrame:
    """Predicted probability and frequency, one line per bin of (N,) probabilities.

    Columns `count`, `predicted` (mean probability), `frequency` (share of `true`, 0 or 1), `lower`
    and `upper` (its 95 % interval, Wilson 1927). Bins are 0.05 wide, or as many times wider as it
    takes to hold `SAMPLES_A_BIN`; with fewer samples there is one bin.
    """
    order = np.argsort(probability, kind="stable")
    probability, true, cuts = probability[order], true[order], [0]
    for cut in np.searchsorted(probability, np.linspace(0, 1, 21)[1:-1]):
        if min(cut - cuts[-1], len(probability) - cut) >= SAMPLES_A_BIN:
            cuts.append(cut)
    lines = []
    for inside in np.split(np.arange(len(probability)), cuts[1:]):
        interval = stats.binomtest(int(true[inside].sum()), len(inside)).proportion_ci(
            method="wilson"
        )
        means = probability[inside].mean(), true[inside].mean()
        lines.append((len(inside), *means, interval.low, interval.high))
    return pd.DataFrame(lines, columns=["count", "predicted", "frequency", "lower", "upper"])


def plot_calibration(log_ratio: Tensor, labels: Tensor, path: Path) -> None:
    """Above, frequency of a class over its predicted probability; below, a histogram of the latter.

    The probabilities are those under the class frequencies of the samples. Of two classes the
    second is shown, of more classes all together: each sample then counts once for each class. Only
    one of these is its label, so that the intervals of `reliability` are not too narrow.

    Args:
        log_ratio: (N, K) out-of-fold log p(x, k) / (p(x) p(k)), under any class prior.
        labels: (N,); each of the K classes occurs.
    """
    probability = torch.softmax(log_ratio + torch.bincount(labels).log(), dim=1)
    true = torch.nn.functional.one_hot(labels)
    shown = slice(1, None) if log_ratio.shape[1] == 2 else slice(None)
    probability, true = (v[:, shown].flatten().numpy() for v in (probability, true))
    bins = reliability(probability, true)
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(4.5, 6), height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    band = bins["frequency"] - bins["lower"], bins["upper"] - bins["frequency"]
    top.errorbar(bins["predicted"], bins["frequency"], band, fmt="o", markersize=4, capsize=3)
    top.set(ylabel="share of samples of that class", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    bottom.hist(probability, bins=np.linspace(0, 1, 21), color="0.7", edgecolor="0.4")
    bottom.set(
        yscale="log", ylim=(0.7, None), ylabel="count", xlabel="predicted probability of a class"
    )
    save_figure(figure, path)
