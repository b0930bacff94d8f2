"""Figures of localisation: hits against the threshold."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from common.plots import save_figure


def plot_threshold_curves(
    thresholds: np.ndarray,
    hits: dict[str, np.ndarray],
    chosen: dict[str, int],
    baselines: dict[str, float],
    path: Path,
) -> None:
    """GT-known localisation of each method at each threshold, baselines as level lines.

    Args:
        hits: (N, T) hits of the reported images by method.
        chosen: position of the threshold that the held-out images choose, by method; a dot.
        baselines: GT-known localisation by name.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    for method, hit in hits.items():
        curve = 100 * hit.mean(axis=0)
        (line,) = axes.plot(thresholds, curve, label=method)
        position = chosen[method]
        axes.plot(thresholds[position], curve[position], "o", color=line.get_color())
    for (name, value), style in zip(baselines.items(), ("--", ":"), strict=True):
        axes.axhline(100 * value, color="0.5", linestyle=style, linewidth=1, label=name)
    axes.set_xlabel("threshold (fraction of the map's maximum); dot: chosen on held-out images")
    axes.set_ylabel("GT-known localisation (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    save_figure(figure, path)
