"""Figures of the comparison, and of the evaluation of one run."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm

from mi_common.plots import plain, save_figure, styles


def plot_per_class(
    accuracies: dict[str, dict[str, list[np.ndarray]]], train_counts: np.ndarray, path: Path
) -> None:
    """Per-class accuracy of each loss, one panel per test set; error bars span the seeds.

    `accuracies` holds, by test set and then by loss, (K,) fractions for each seed; a class that is
    NaN is not drawn. `train_counts` are the (K,) training images of each class.
    """
    figure, panels = plt.subplots(
        len(accuracies), 1, figsize=(8, 2.6 * len(accuracies)), sharex=True, squeeze=False
    )
    classes, few = np.arange(len(train_counts)), len(train_counts) <= 30
    for panel, (test_set, by_loss) in zip(panels[:, 0], accuracies.items(), strict=True):
        width = 0.5 / len(by_loss)
        for number, ((loss, values), style) in enumerate(
            zip(by_loss.items(), styles(), strict=False)
        ):
            mean = 100 * np.mean(values, axis=0)
            spread = np.abs(100 * np.stack([np.min(values, axis=0), np.max(values, axis=0)]) - mean)
            x = classes + (number - (len(by_loss) - 1) / 2) * width
            size = {"markersize": 5 if few else 2, "elinewidth": 1 if few else 0.3}
            panel.errorbar(x, mean, spread, linestyle="", label=loss, **size, **style)
        panel.grid(axis="y", color="0.9")
        panel.set_ylabel("accuracy (%)")
        panel.set_title(test_set, loc="left", fontsize=10)
    panels[0, 0].legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    if few:
        panels[-1, 0].set_xticks(classes, [f"{k}\n{n:,}" for k, n in enumerate(train_counts)])
    panels[-1, 0].set_xlabel("class, and its training images" if few else "class")
    save_figure(figure, path, also_svg=True)


def plot_confusion(confusions: dict[str, np.ndarray], class_names: list[str], path: Path) -> None:
    """Predicted classes in percent of each true class, one panel per test set.

    The colour follows the square root of the percentage, so that rare confusions are visible. Names
    and numbers are shown for up to 20 classes, with the number of samples beside the true class.
    (K, K) counts have true classes in rows.
    """
    few = len(class_names) <= 20
    size = max(4.5, 0.55 * len(class_names)) if few else 5.5
    figure, panels = plt.subplots(
        1, len(confusions), figsize=((size + 0.8) * len(confusions), size), squeeze=False
    )
    for panel, (name, counts) in zip(panels[0], confusions.items(), strict=True):
        percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = panel.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
        figure.colorbar(image, ax=panel, label="% of the true class", fraction=0.046, pad=0.03)
        panel.set_title(name, loc="left", fontsize=10)
        panel.set(xlabel="predicted class", ylabel="true class (samples)")
        if not few:
            panel.set(xticks=[], yticks=[])
            continue
        short = all(len(label) <= 3 for label in class_names)
        positions = range(len(class_names))
        panel.set_xticks(positions, list(map(plain, class_names)), rotation=0 if short else 90)
        sizes = counts.sum(axis=1).tolist()
        true = [f"{plain(label)} ({n})" for label, n in zip(class_names, sizes, strict=True)]
        panel.set_yticks(positions, true)
        for i, k in zip(*counts.nonzero(), strict=True):
            colour = "white" if percent[i, k] > 35 else "black"
            text = f"{percent[i, k]:.0f}" if percent[i, k] >= 0.95 else f"{percent[i, k]:.1f}"
            panel.text(k, i, text, ha="center", va="center", fontsize=8, color=colour)
    save_figure(figure, path)


def plot_reliability(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Accuracy by the probability of the predicted class; below, the share of the samples.

    `tables` are those of `metrics.calibration_table`, by test set.
    """
    layout = {"figsize": (3.8 * len(tables), 4.8), "height_ratios": [3, 1], "squeeze": False}
    figure, panels = plt.subplots(2, len(tables), sharex=True, sharey="row", **layout)
    for (top, bottom), (name, table) in zip(panels.T, tables.items(), strict=True):
        width = 1 / len(table)
        filled = table[table["count"] > 0]
        top.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="calibrated")
        points = {"markersize": 4, "clip_on": False, "label": "bins"}
        top.plot(filled["confidence"], filled["accuracy"], "o-", **points)
        top.set_title(name, loc="left", fontsize=10)
        top.set(xlim=(0, 1), ylim=(0, 1))
        centres = (np.arange(len(table)) + 0.5) * width
        bottom.bar(centres, table["count"] / table["count"].sum(), width=0.9 * width, color="0.5")
        bottom.set_xlabel("probability of the predicted class")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("share")
    panels[0, 0].legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def plot_shift(rows: pd.DataFrame, methods: list[str], path: Path) -> None:
    """Accuracy of each target prior over the shifts; below, the error of estimated priors.

    `methods` are the columns of shift.csv with accuracies. One whose name starts with "oracle" is
    drawn as the upper limit. The columns `METHOD_total_variation` are drawn below.
    """
    layout = {"figsize": (8, 6.2), "height_ratios": [3, 1.4]}
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, **layout)
    x = np.arange(len(rows))
    in_order = ~rows["shift"].str.startswith("dirichlet").to_numpy()  # joined by a line
    style_of = dict(zip(methods, styles(), strict=False))

    def draw(panel: plt.Axes, method: str, values: np.ndarray) -> None:
        oracle = method.startswith("oracle")
        style = {"marker": "_", "color": "black"} if oracle else style_of[method]
        line = "--" if oracle else "-"
        panel.plot(x[in_order], values[in_order], line, linewidth=1, color=style["color"])
        panel.plot(x, values, linestyle="", markersize=14 if oracle else 5, label=method, **style)

    for method in methods:
        draw(top, method, 100 * rows[method].to_numpy(dtype=float))
        distance = f"{method}_total_variation"
        if distance in rows:
            draw(bottom, method, rows[distance].to_numpy(dtype=float))
    for panel in (top, bottom):
        panel.grid(axis="y", color="0.9")
    top.set_ylabel("accuracy (%)")
    top.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    bottom.set_ylabel("total variation\nto the true prior")
    bottom.set_ylim(bottom=0)
    names = rows["shift"].str.replace("dirichlet", "draw")
    bottom.set_xticks(
        x, [f"{n}\n{r:.0f}" for n, r in zip(names, rows["ratio"], strict=True)], rotation=30
    )
    bottom.tick_params(axis="x", labelsize=8)
    bottom.set_xlabel("class prior of the test set; ratio of its largest to its smallest class")
    save_figure(figure, path)
