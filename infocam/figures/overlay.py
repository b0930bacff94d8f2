"""Pictures under their localisation maps, with boxes.

Maps are signed: yellow is evidence for the class, blue against it, grey is none, and a thin white
line follows the zeros. The colours are cividis with zero in the middle. Their lightness increases
from end to end, so the sign survives grey prints and every kind of colour blindness; the usual
red-white-blue is dark at both ends. Map and picture are mixed in the same proportion everywhere, so
that a larger value is lighter than a smaller one on any picture.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from infocam.scoring.boxes import resize_map
from infocam.scoring.metrics import box_iou
from mi_common.files import save_arrays
from mi_common.plots import plain, save_figure

COLOURS, MAP_SHARE = "cividis", 0.65
TRUE_COLOUR, PREDICTED_COLOUR, HALO_COLOUR = "#ffffff", "#ff9248", "#000000"
PANEL = 2.2  # inches, the width of a panel
LARGEST_SIDE = 480  # pixels of a drawn picture; more would not be visible


@dataclass(frozen=True)
class Overlay:
    """A row of panels: the picture, then each method's map laid over it."""

    picture: np.ndarray  # (H, W, 3) uint8
    maps: dict[str, np.ndarray]  # signed (h, w) floats by method, stretched to the picture
    boxes: dict[str, np.ndarray]  # (4,) predicted, inclusive pixels; methods may lack one
    truths: np.ndarray  # (M, 4) true boxes; M may be zero
    title: str  # above the picture


def save_gallery(path: Path, rows: list[Overlay]) -> None:
    """One PNG with a row per image and a column per method, and the IoU above each map."""
    methods = list(rows[0].maps)
    heights = [PANEL * _aspect(row.picture) + 0.35 for row in rows]  # and the title's line
    size = (PANEL * (1 + len(methods)), sum(heights))
    options = {"squeeze": False, "figsize": size, "height_ratios": heights}
    figure, grid = plt.subplots(len(rows), 1 + len(methods), **options)
    for row, (first, *panels) in zip(rows, grid, strict=True):
        draw_panel(first, row.picture, truths=row.truths)
        first.set_title(plain(row.title), fontsize=8)
        for panel, method in zip(panels, methods, strict=True):
            box = row.boxes.get(method)
            draw_panel(panel, row.picture, row.maps[method], box=box, truths=row.truths)
            has_iou = box is not None and len(row.truths)
            iou = f"  IoU {box_iou(box[None], row.truths).max():.2f}" if has_iou else ""
            panel.set_title(method + iou, fontsize=8)
    save_figure(figure, path, dpi=110)


def save_overlay_arrays(path: Path, row: Overlay) -> None:
    """What `save_gallery` draws of an image, for pages that switch between the methods.

    Arrays: picture (H, W, 3) uint8, title, methods (M,), maps (M, h, w), boxes (M, 4), -1 where a
    method has none, truths (T, 4).
    """
    methods = list(row.maps)
    save_arrays(
        path,
        picture=row.picture,
        title=row.title,
        methods=methods,
        maps=np.stack([row.maps[method] for method in methods]),
        boxes=np.array([row.boxes.get(method, [-1] * 4) for method in methods], int),
        truths=np.asarray(row.truths, int).reshape(-1, 4),
    )


def draw_panel(
    panel: plt.Axes,
    picture: np.ndarray,
    values: np.ndarray | None = None,
    *,
    box: np.ndarray | None = None,
    truths: np.ndarray | tuple = (),
) -> AxesImage:
    """Draws the picture, in grey if a map lies over it; true boxes solid, predicted dashed.

    The axes are in pixels of the picture, whatever the resolution of the map.

    Returns:
        The image of the map, or of the picture if there is no map.
    """
    height, width = picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    shrink = min(1.0, LARGEST_SIDE / max(height, width))
    size = [max(round(side * shrink), 1) for side in (width, height)]
    if shrink < 1:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if values is None:
        drawn = panel.imshow(picture, extent=extent)
    else:
        values = resize_map(values, *size)
        largest = float(np.abs(values).max()) or 1.0
        options = {"extent": extent, "vmin": -largest, "vmax": largest}
        panel.imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)
        drawn = panel.imshow(values, cmap=COLOURS, alpha=MAP_SHARE, **options)
        if values.min() < 0 < values.max():
            outline = {"colors": TRUE_COLOUR, "linewidths": 0.6, "alpha": 0.8}
            panel.contour(values, levels=[0], extent=extent, origin="upper", **outline)
    if box is not None:
        _draw_box(panel, box, PREDICTED_COLOUR, "--")
    for truth in truths:
        _draw_box(panel, truth, TRUE_COLOUR, "-")
    panel.set_axis_off()
    return drawn


def _draw_box(panel: plt.Axes, box: np.ndarray, colour: str, style: str) -> None:
    """A light line on a broader black one: on any background one of them is visible."""
    x0, y0, x1, y1 = box
    corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0 + 1, y1 - y0 + 1)
    for ink, width, dashes in ((HALO_COLOUR, 2.6, "-"), (colour, 1.3, style)):
        options = {"edgecolor": ink, "linewidth": width, "linestyle": dashes}
        # Not clipped, because half of a line along the border lies outside.
        panel.add_patch(Rectangle(corner, *size, fill=False, clip_on=False, **options))


def _aspect(picture: np.ndarray) -> float:
    """Height over width, limited so that panels stay legible."""
    return float(np.clip(picture.shape[0] / picture.shape[1], 0.5, 1.5))
