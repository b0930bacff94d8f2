"""Figures of the comparison: accuracy of each class."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from common.plots import MARKERS, save_figure


def plot_per_class(
    accuracies: dict[str, dict[str, list[np.ndarray]]], train_counts: np.ndarray, path: Path
) -> None:
    """Per-class accuracy of each loss, a panel a test set; whiskers span the seeds.

    Args:
        accuracies: by test set, then by loss: (K,) fractions of each seed.
        train_counts: (K,) training images of each class.
    """
    figure, panels = plt.subplots(
        len(accuracies), 1, figsize=(8, 2.6 * len(accuracies)), sharex=True, squeeze=False
    )
    classes = np.arange(len(train_counts))
    for panel, (test_set, by_loss) in zip(panels[:, 0], accuracies.items(), strict=True):
        width = 0.5 / len(by_loss)
        for number, (loss, values) in enumerate(by_loss.items()):
            mean = 100 * np.mean(values, axis=0)
            spread = np.abs(100 * np.stack([np.min(values, axis=0), np.max(values, axis=0)]) - mean)
            x = classes + (number - (len(by_loss) - 1) / 2) * width
            marker = MARKERS[number % len(MARKERS)]
            panel.errorbar(x, mean, spread, fmt=marker, markersize=5, linewidth=1, label=loss)
        panel.grid(axis="y", color="0.9")
        panel.set_ylabel("accuracy (%)")
        panel.set_title(test_set, loc="left", fontsize=10)
    panels[0, 0].legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    panels[-1, 0].set_xticks(classes, [f"{k}\n{n:,}" for k, n in enumerate(train_counts)])
    panels[-1, 0].set_xlabel("class, and its training images")
    save_figure(figure, path)
