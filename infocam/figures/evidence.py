"""The figure of an explained photograph: where the evidence for a class is, on its own colours.

Yellow is evidence for the class, blue against it; where there is none, the photograph is as it was.
The stronger the evidence, the more it covers. Solid lines enclose evidence for the class and dashed
ones evidence against it, so that the sign survives grey prints and every kind of colour blindness.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Rectangle

from infocam.scoring.boxes import resize_map
from mi_common.plots import plain, save_figure

FOR_COLOUR, AGAINST_COLOUR = "#ffe11a", "#0b2a6b"
HIGHEST_SHARE = 0.65  # of the map at the end of its scale, where it covers the picture most
CONTOURS = (1 / 3, 2 / 3)  # of the scale
# Of the explained classes (Okabe and Ito 2008): on the picture and in the chart.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00")
DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1)), "-.", (0, (6, 1, 1, 1)))
PANEL_WIDTH = 3.4  # inches
LARGEST_SIDE = 640  # pixels of a drawn picture
DPI = 200
LEGEND = (
    "Yellow: evidence for the class, inside solid lines at {} of the scale. Blue: evidence against "
    "it, inside dashed lines. No colour: none. Box: around the largest region with more than "
    "{:.0%} of the map's {}."
)


@dataclass(frozen=True)
class Panel:
    """A map with its title.

    Attributes:
        values: (h, w) floats, stretched to the picture.
        box: (4,) inclusive pixels of the picture; -1 for none.
        position: of its class among the explained ones.
        scale: the value, above zero, at which the colours end.
        unit: of the values; empty for none.
        class_name: written at the box if the picture has the boxes of several classes.
        signed: whether values below zero can occur.
        note: below the title, such as why there is no box.
    """

    title: str
    values: np.ndarray
    box: np.ndarray
    position: int
    scale: float
    unit: str
    class_name: str
    signed: bool = True
    note: str = ""


@dataclass(frozen=True)
class ClassBar:
    """A class in the chart; `position` among the explained ones, None for others."""

    name: str
    probability: float
    position: int | None
    detail: str = ""  # behind the probability


@dataclass(frozen=True)
class Figure:
    """All that is drawn of one picture; `size` is its width and height before it was shrunk."""

    picture: np.ndarray
    size: tuple[int, int]
    title: str
    panels: list[Panel]
    bars: list[ClassBar]
    chart_title: str
    legend: str


def colours() -> ListedColormap:
    """From `AGAINST_COLOUR` over transparent to `FOR_COLOUR`."""
    values = np.linspace(-1, 1, 255)
    rgba = np.empty((255, 4))
    rgba[:, :3] = np.where(values[:, None] > 0, to_rgb(FOR_COLOUR), to_rgb(AGAINST_COLOUR))
    rgba[:, 3] = HIGHEST_SHARE * np.abs(values)
    return ListedColormap(rgba)


def shrunk(picture: np.ndarray, longest: int = LARGEST_SIDE) -> np.ndarray:
    """An (H, W, 3) uint8 picture whose sides are at most `longest` pixels."""
    factor = longest / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = [max(round(side * factor), 1) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def percent(probability: float) -> str:
    """Such as 93 %, 0.4 %, < 0.1 %."""
    if probability < 0.001:
        return "< 0.1 %"
    return f"{100 * probability:.{0 if probability >= 0.0995 else 1}f} %"


def save_explanation(path: Path, figure: Figure) -> None:
    """Writes the picture with its boxes, the maps with their scales, and the classes' chart."""
    cells = len(figure.panels) + 2
    columns = 2 if cells <= 4 else 3
    lines = -(-cells // columns)
    aspect = float(np.clip(figure.size[1] / figure.size[0], 0.4, 1.6))
    height = lines * (PANEL_WIDTH * aspect + 0.85) + 0.55
    drawn, grid = plt.subplots(lines, columns, figsize=(columns * PANEL_WIDTH, height))
    first, *others = grid.flat
    draw_picture(first, figure)
    for axes, panel in zip(others, figure.panels, strict=False):
        draw_map(axes, figure, panel)
        _draw_scale(axes, panel)
        set_title(axes, panel.title, panel.note)
    draw_chart(others[len(figure.panels)], figure.bars)
    set_title(others[len(figure.panels)], figure.chart_title)
    for axes in others[len(figure.panels) + 1 :]:
        axes.set_axis_off()
    for axes in grid.flat:
        axes.set_anchor("N")
    width = int(columns * PANEL_WIDTH * 15)
    drawn.supxlabel("\n".join(textwrap.wrap(figure.legend, width)), fontsize=8, color="0.3")
    save_figure(drawn, path, dpi=DPI)


def set_title(axes: plt.Axes, title: str, note: str = "") -> None:
    lines = textwrap.wrap(plain(title, 90), 42) + [note] * bool(note)
    below_scales = axes.get_subplotspec().rowspan.start > 0
    axes.set_title("\n".join(lines), fontsize=9, pad=18 if below_scales else 6)


def draw_picture(axes: plt.Axes, figure: Figure) -> None:
    """The picture with the first box of each class."""
    _show(axes, figure)
    positions = [panel.position for panel in figure.panels]
    for position in sorted(set(positions)):
        panel = figure.panels[positions.index(position)]
        draw_box(axes, panel.box, position)
        if len(set(positions)) > 1 and panel.box[0] >= 0:
            style = {"facecolor": "k", "edgecolor": "none", "pad": 1.5, "alpha": 0.75}
            options = {"fontsize": 7.5, "va": "top", "color": _class_colour(position)}
            axes.text(*panel.box[:2], plain(panel.class_name, 25), bbox=style, **options)
    set_title(axes, figure.title)


def draw_map(axes: plt.Axes, figure: Figure, panel: Panel) -> None:
    """The picture under a map, with contours and box."""
    extent = _show(axes, figure)
    height, width = figure.picture.shape[:2]
    values = resize_map(panel.values, width, height)
    options = {"extent": extent, "vmin": -panel.scale, "vmax": panel.scale}
    axes.imshow(values, cmap=colours(), interpolation="bilinear", **options)
    for sign, dashes in ((1, "-"), (-1, (0, (3, 2)))):
        levels = sorted(sign * panel.scale * share for share in CONTOURS)
        if levels[0] > values.max() or levels[-1] < values.min():
            continue
        lines = axes.contour(
            values, levels=levels, extent=extent, origin="upper", colors="w", linestyles=[dashes]
        )
        halo = patheffects.withStroke(linewidth=1.8, foreground="k")
        lines.set(linewidth=0.9, path_effects=[halo])
    draw_box(axes, panel.box, panel.position)


def draw_box(axes: plt.Axes, box: np.ndarray, position: int) -> None:
    """A line in the colour of its class on a broader black one; nothing for no box."""
    if box[0] < 0:
        return
    x0, y0, x1, y1 = box
    colour, dashes = (kinds[position % len(kinds)] for kinds in (CLASS_COLOURS, DASHES))
    for ink, width, style in (("k", 3.4, "-"), (colour, 1.9, dashes)):
        options = {"edgecolor": ink, "linewidth": width, "linestyle": style, "capstyle": "butt"}
        # Not clipped, because half of a line along the border lies outside.
        corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0 + 1, y1 - y0 + 1)
        axes.add_patch(Rectangle(corner, *size, fill=False, clip_on=False, **options))


def draw_chart(axes: plt.Axes, bars: Sequence[ClassBar]) -> None:
    """A bar per class as long as its probability, its name above."""
    places = np.arange(len(bars))
    inks = ["0.6" if b.position is None else _class_colour(b.position) for b in bars]
    axes.barh(places + 0.22, [1] * len(bars), height=0.34, color="0.93")
    axes.barh(places + 0.22, [bar.probability for bar in bars], height=0.34, color=inks)
    for place, bar in zip(places, bars, strict=True):
        weight = "normal" if bar.position is None else "bold"
        options = {"fontsize": 8.5, "va": "center", "weight": weight}
        axes.text(0, place - 0.17, plain(bar.name, 30), **options)
        text = " · ".join(filter(None, (percent(bar.probability), bar.detail)))
        axes.text(1, place - 0.17, text, ha="right", **options)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(bars) - 0.4, -0.5)
    axes.set_axis_off()


def _class_colour(position: int) -> str:
    return CLASS_COLOURS[position % len(CLASS_COLOURS)]


def _draw_scale(axes: plt.Axes, panel: Panel) -> None:
    """A bar below the map: its colours on grey, the lines of its contours, ends and unit."""
    bar = axes.inset_axes((0, -0.085, 1, 0.045))
    low = -panel.scale if panel.signed else 0
    bar.set_facecolor("0.6")
    bar.imshow(
        np.linspace(low, panel.scale, 500)[None],
        cmap=colours(),
        vmin=-panel.scale,
        vmax=panel.scale,
        extent=(low, panel.scale, 0, 1),
        aspect="auto",
    )
    for share in CONTOURS:
        for value, dashes in ((share, "-"), (-share, (0, (2, 1)))):
            bar.axvline(value * panel.scale, color="w", linewidth=0.9, linestyle=dashes)
    bar.set_xlim(low, panel.scale)
    bar.set_yticks([])
    bar.spines[:].set_visible(False)
    ticks = {low: f"against  −{panel.scale:.3g}"} if panel.signed else {}
    ticks |= {0: f"0 {panel.unit}".strip(), panel.scale: f"for  {panel.scale:.3g}"}
    bar.set_xticks(list(ticks), list(ticks.values()))
    bar.tick_params(labelsize=7.5, length=2, pad=1)
    first, *_, last = bar.get_xticklabels()
    first.set_ha("left")
    last.set_ha("right")


def _show(axes: plt.Axes, figure: Figure) -> tuple[float, float, float, float]:
    """Draws the picture; the axes are in pixels of its full size."""
    width, height = figure.size
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(figure.picture, extent=extent)
    axes.set_axis_off()
    return extent
