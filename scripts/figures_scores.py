"""Figures of mutual information and of accuracy: the paper's task, harder tasks, classes."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mi_common.plots import save_figure
from mi_common.tables import interval_half_width
from mi_estimator.benchmark_report import errors_and_failures
from mi_estimator.plots import plot_errors
from mi_estimator.tasks.suites import PAPER_DIMENSIONS, PUBLISHED, SUITES

WIDTH = 8.8  # inches: a page shows 100 pixels an inch, so that 9 points are 12 pixels
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.45"  # colours that the colour-blind can tell apart
READINGS = {  # estimator: what it is called, colour, marker
    "softmax-log-k": ("softmax + log K", ORANGE, "s"),
    "pc-softmax": ("PC-softmax", BLUE, "o"),
}
RULES = {  # loss and decision rule
    ("softmax", "as trained"): ("softmax", ORANGE, "s"),
    ("softmax", "prior subtracted"): ("softmax, log prior subtracted", GREY, "D"),
    ("pc-softmax", "as trained"): ("PC-softmax", BLUE, "o"),
}


def draw_paper(rows: pd.DataFrame, path: Path) -> None:
    """The exact values of the paper's tasks, ours (means over seeds), those of its checkpoints.

    `rows` are those of the suite `paper`. Filled markers are ours, open ones the paper's.
    """
    means = rows.groupby(["task", "estimator"])["estimate"].mean()
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 4.4), sharey=True)
    for panel, counts in zip(panels, ("balanced", "imbalanced"), strict=True):
        tasks = [f"gaussian-d{dim}-{counts}" for dim in PAPER_DIMENSIONS]
        exact = rows.groupby("task")["truth"].first()[tasks]
        for place, value in enumerate(exact):
            label = "exact" if place == 0 else None
            panel.plot([place - 0.4, place + 0.4], [value] * 2, "k", linewidth=1.5, label=label)
        for shift, (estimator, (name, colour, marker)) in zip(
            (-0.2, 0.2), READINGS.items(), strict=True
        ):
            style = {"marker": marker, "color": colour, "linestyle": "none", "markersize": 8}
            places = np.arange(len(tasks)) + shift
            ours = [means[task, estimator] for task in tasks]
            panel.plot(places - 0.08, ours, label=f"{name}, ours", **style)
            published = [PUBLISHED.get((task, estimator), np.nan) for task in tasks]
            style |= {"markerfacecolor": "white", "markeredgewidth": 2}
            panel.plot(places + 0.08, published, label=f"{name}, the paper's", **style)
        entropy = SUITES["paper"][tasks[0]].distribution.label_entropy
        panel.axhline(entropy, color=GREY, linestyle="--", linewidth=1.2)
        panel.annotate("H(Y)", (-0.6, entropy), (4, 4), textcoords="offset points", color=GREY)
        panel.set_xticks(range(len(tasks)), PAPER_DIMENSIONS)
        panel.set(xlabel="dimensions of x", title=f"{counts} classes", xlim=(-0.6, 3.6))
    panels[0].set_ylabel("mutual information (nats)")
    panels[0].legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def draw_hard(rows: pd.DataFrame, path: Path) -> None:
    """A heat map of the errors of all estimators on the harder tasks."""
    plot_errors(*errors_and_failures(rows), path)


def draw_classes(rows: pd.DataFrame, path: Path) -> None:
    """Accuracy of each class, the rare classes on the left: means over seeds, 95 % intervals.

    `rows` are a row a run, rule, test set and class; the official test set is shown.
    """
    rows = rows[rows["test_set"] == "official"].assign(accuracy=100 * rows["accuracy"])
    counts = sorted(rows["train_count"].unique())
    figure, panels = plt.subplots(1, len(counts), figsize=(WIDTH, 3.8), sharey=True)
    for panel, count in zip(panels, counts, strict=True):
        group = rows[rows["train_count"] == count]
        classes = sorted(group["class"].unique())
        for shift, (key, (name, colour, marker)) in enumerate(RULES.items()):
            of_rule = group[group["loss"].eq(key[0]) & group["rule"].eq(key[1])]
            by_class = of_rule.groupby("class")["accuracy"]
            places = np.arange(len(classes)) + 0.2 * (shift - 1)
            values = [by_class.get_group(name) for name in classes]
            draw_means(panel, places, values, name, colour, marker)
        panel.set_xticks(range(len(classes)), classes)
        panel.set(xlabel="digit", title=f"{count:,} training images of each")
        panel.grid(axis="y", color="0.9")
    panels[0].set_ylabel("accuracy (%)")
    panels[-1].legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def draw_means(
    axes: plt.Axes,
    places: Sequence[float],
    values: list[pd.Series],
    name: str,
    colour: str,
    marker: str,
) -> None:
    """Means over seeds with their 95 % intervals."""
    means, widths = zip(*((v.mean(), interval_half_width(v)) for v in values), strict=True)
    style = {"color": colour, "marker": marker, "linestyle": "none", "label": name}
    axes.errorbar(places, means, widths, **style)
