"""Figures of localisation: hits against the threshold."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from mi_common.plots import save_figure


def plot_threshold_curves(curves: pd.DataFrame, rows: pd.DataFrame, path: Path) -> None:
    """GT-known localisation of each method at each threshold, baselines as level lines.

    Args:
        curves: of `scores.curve_table`; those without region filter are drawn.
        rows: of results.csv; a dot marks the threshold that held-out images choose.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    plain = rows[rows["region_rule"] == "off"]
    held_out = plain[plain["threshold_rule"] == "held-out"].set_index("method")
    for method, own in curves[curves["region"] == 1].groupby("method", sort=False):
        (line,) = axes.plot(own["threshold"], 100 * own["gt_known"], label=method)
        if method in held_out.index:
            dot = held_out.loc[method]
            axes.plot(dot["threshold"], 100 * dot["gt_known"], "o", color=line.get_color())
    for method, style in (("whole-image", ":"), ("centre-box", "--")):
        level = plain[(plain["method"] == method) & (plain["threshold_rule"] != "oracle")]
        for value in level["gt_known"]:
            axes.axhline(100 * value, color="0.5", linestyle=style, linewidth=1, label=method)
    axes.set_xlabel("threshold (fraction of the map's maximum); dot: chosen on held-out images")
    axes.set_ylabel("GT-known localisation (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
