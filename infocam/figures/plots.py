"""Figures of localisation: hits against the threshold."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from mi_common.plots import save_figure


def plot_threshold_curves(curves: pd.DataFrame, rows: pd.DataFrame, path: Path) -> None:
    """GT-known localisation of each method at each threshold, and the baselines as level lines.

    Args:
        curves: of `scores.curve_table`; the figure shows those without region filter.
        rows: of results.csv; a dot marks the validation threshold.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    plain = rows[rows["region_rule"] == "off"]
    validation = plain[plain["threshold_rule"] == "validation"].set_index("method")
    for method, curve in curves[curves["region"] == 1].groupby("method", sort=False):
        (line,) = axes.plot(curve["threshold"], 100 * curve["gt_known"], label=method)
        if method in validation.index:
            dot = validation.loc[method]
            axes.plot(dot["threshold"], 100 * dot["gt_known"], "o", color=line.get_color())
    for method, style in (("whole-image", ":"), ("centre-box", "--")):
        level = plain[(plain["method"] == method) & (plain["threshold_rule"] != "oracle")]
        for value in level["gt_known"]:
            axes.axhline(100 * value, color="0.5", linestyle=style, linewidth=1, label=method)
    axes.set_xlabel("threshold (fraction of the map's maximum); dot: best on validation images")
    axes.set_ylabel("GT-known localisation (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path, also_svg=True)
