"""Figures of the estimator: estimates beside exact values."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from common.plots import MARKERS, save_figure


def plot_estimates(rows: pd.DataFrame, path: Path) -> None:
    """Above, estimates beside the exact value of each task; below, the difference, in nats.

    Args:
        rows: of `results.csv`; every seed is a dot with its own 95 % interval.
        path: of the PNG.
    """
    tasks = list(dict.fromkeys(rows["task"]))
    estimators = list(dict.fromkeys(rows["estimator"]))
    truth = rows.groupby("task")["truth"].first()[tasks].to_numpy()
    positions = np.arange(len(tasks))
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(1 + 1.1 * len(tasks), 6), height_ratios=[3, 2]
    )
    top.bar(positions, truth, width=0.9, color="0.85", label="exact")
    bottom.axhline(0, color="0.4", linewidth=1)
    for number, estimator in enumerate(estimators):
        mine = rows[rows["estimator"] == estimator]
        shift = (number - (len(estimators) - 1) / 2) * 0.6 / len(estimators)
        x = np.array([tasks.index(task) for task in mine["task"]]) + shift
        x = x + 0.03 * (mine["seed"].rank(method="dense").to_numpy() - 1)
        half_width = (mine["upper"] - mine["lower"]) / 2
        top.plot(x, mine["estimate"], MARKERS[number % len(MARKERS)], markersize=4, label=estimator)
        bottom.errorbar(
            x,
            mine["estimate"] - mine["truth"],
            half_width,
            fmt=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=1,
        )
    top.set_ylabel("mutual information (nats)")
    bottom.set_ylabel("estimate − exact (nats)")
    bottom.set_xticks(positions, tasks, rotation=30, ha="right")
    top.legend(
        frameon=False, ncols=len(estimators) + 1, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    save_figure(figure, path)
