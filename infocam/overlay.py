"""Pictures of localisation maps with the true and the predicted box."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from common.plots import save_figure

TRUE_COLOUR, PREDICTED_COLOUR = "#ffffff", "#ffd500"


def save_overlay(
    path: Path,
    picture: np.ndarray,
    maps: dict[str, np.ndarray],
    boxes: dict[str, np.ndarray],
    truths: np.ndarray,
    title: str,
) -> None:
    """The picture, then each method's map laid over it; true box solid, predicted box dashed.

    The maps are signed, so their colours diverge around zero: red for, blue against the class.

    Args:
        picture: (H, W, 3) uint8.
        maps: (H, W) floats by method.
        boxes: (4,) predicted box by method, inclusive pixels.
        truths: (M, 4) true boxes.
    """
    figure, panels = plt.subplots(1, 1 + len(maps), figsize=(2.2 * (1 + len(maps)), 2.55))
    panels[0].imshow(picture)
    panels[0].set_title(title, fontsize=8)
    grey = picture.mean(axis=2)
    for panel, (method, values) in zip(panels[1:], maps.items(), strict=True):
        largest = float(np.abs(values).max()) or 1.0
        panel.imshow(grey, cmap="gray", vmin=0, vmax=255)
        panel.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=0.6)
        _draw(panel, boxes[method], PREDICTED_COLOUR, "--")
        panel.set_title(method, fontsize=8)
    for panel in panels:
        for box in truths:
            _draw(panel, box, TRUE_COLOUR, "-")
        panel.axis("off")
    save_figure(figure, path, dpi=110)


def _draw(panel: plt.Axes, box: np.ndarray, colour: str, style: str) -> None:
    x0, y0, x1, y1 = box
    corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0 + 1, y1 - y0 + 1)
    # A dark line below keeps the box visible on a light ground.
    for ink, width in (("black", 3.0), (colour, 1.5)):
        panel.add_patch(
            Rectangle(corner, *size, fill=False, edgecolor=ink, linewidth=width, linestyle=style)
        )
