"""Figures of localisation: thresholds, the common part of a head, pictures that methods box apart.

Yellow is evidence for the class, blue against it; see `infocam.figures.overlay`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from infocam.figures.overlay import draw_panel
from infocam.scoring.metrics import IOU_HIT
from mi_common.plots import save_figure, styles
from scripts.figures_scores import BLUE, GREY, ORANGE, WIDTH
from scripts.page_tables_boxes import without_test_choices

METHODS = {"infocam": ("infoCAM", BLUE, "-"), "cam": ("CAM", ORANGE, "--")}
BASELINES = {"centre-box": ("centred box", "-."), "whole-image": ("whole image", ":")}
OPTIMIZERS = {"adamw": "head trained by AdamW", "sgd": "head trained by SGD"}


def draw_thresholds(curves: pd.DataFrame, scores: pd.DataFrame, path: Path) -> None:
    """GT-known localisation at each threshold, one panel for each optimiser of the head.

    Args:
        curves: a row an optimiser, method and threshold, of heads of one seed.
        scores: rows of `infocam.evaluate`; dots are at the thresholds that validation images
            choose, level lines are baselines.
    """
    scores = without_test_choices(scores[scores["region_rule"] == "off"])
    (seed,) = curves["seed"].unique()
    same = scores["seed"].eq(seed) & scores["map"].eq("7x7") & scores["protocol"].eq("infocam")
    by_method = scores[same].set_index(["optimizer", "method"])
    figure, panels = plt.subplots(1, len(OPTIMIZERS), figsize=(WIDTH, 4.2), sharey=True)
    for panel, (optimizer, title) in zip(panels, OPTIMIZERS.items(), strict=True):
        for method, (name, colour, line) in METHODS.items():
            rows = curves[curves["optimizer"].eq(optimizer) & curves["method"].eq(method)]
            style = {"color": colour, "linestyle": line, "linewidth": 2}
            panel.plot(rows["threshold"], 100 * rows["gt_known"], label=name, **style)
            dot = by_method.loc[(optimizer, method)]
            size = 9 if method == "infocam" else 6  # so that both show where they are equal
            panel.plot(dot["threshold"], 100 * dot["gt_known"], "o", color=colour, markersize=size)
        for method, (name, line) in BASELINES.items():
            value = 100 * by_method.loc[(optimizer, method), "gt_known"]
            panel.axhline(value, color=GREY, linestyle=line, label=name)
        panel.set(title=title, xlim=(0, 1), xlabel="threshold, as a share of the map's range")
    panels[0].set_ylabel("boxes that hit, given the label (%)")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(frameon=False, loc="lower left")
    save_figure(figure, path)


def draw_common_part(rows: pd.DataFrame, path: Path) -> None:
    """infoCAM's gain over the common part's share of CAM: a line or a point for each head."""
    figure, axes = plt.subplots(figsize=(6.5, 4))
    for (head, group), style in zip(rows.groupby("head", sort=False), styles(), strict=False):
        group = group.sort_values("map_share")
        gain = 100 * group["gain"]
        ends = [gain - 100 * group["gain_low"], 100 * group["gain_high"] - gain]
        axes.errorbar(
            100 * group["map_share"], gain, ends, label=head, capsize=2, linewidth=1, **style
        )
        as_trained = group[group["factor"] == 1]
        axes.plot(
            100 * as_trained["map_share"], 100 * as_trained["gain"], "o", ms=12, mfc="none", mec="k"
        )
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("variance of CAM over positions that is the common part's (%)")
    axes.set_ylabel("infoCAM less CAM\n(points of GT-known localisation)")
    axes.legend(frameon=False, title="circles: as trained")
    save_figure(figure, path)


def draw_differences(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Pictures that one method boxes right and the other wrong, under the maps of both.

    `arrays` hold, for N pictures, those that the second of the two methods boxes right first:
    pictures (N, H, W) uint8, labels (N,), truths (N, 4), maps (N, 2, h, w), boxes (N, 2, 4) and
    overlaps (N, 2), the intersection over union with the true box.
    """
    count = len(arrays["pictures"]) // 2
    figure, grid = plt.subplots(4, count, figsize=(WIDTH, 10.6), squeeze=False)
    names = [METHODS[str(method)][0] for method in arrays["methods"]]
    for index in range(2 * count):
        picture = np.repeat(arrays["pictures"][index][..., None], 3, axis=2)
        for number, name in enumerate(names):
            panel = grid[2 * (index // count) + number, index % count]
            box, truth = arrays["boxes"][index, number], arrays["truths"][index][None]
            draw_panel(panel, picture, arrays["maps"][index, number], box=box, truths=truth)
            for drawn in [*panel.collections]:
                drawn.remove()  # the lines where the map is zero: noise at this size
            for image in panel.images:
                image.set_interpolation("nearest")  # which shows the pixels; a small file
            overlap = arrays["overlaps"][index, number]
            verdict = "right" if overlap >= IOU_HIT else "wrong"
            digit = arrays["labels"][index]
            panel.set_title(f"{name}, digit {digit}\noverlap {overlap:.2f}: {verdict}", fontsize=10)
    save_figure(figure, path, dpi=100)
