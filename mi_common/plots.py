"""Drawing that all figures share: colours, names as text, saving as PNG without a display."""

import itertools
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: figures are files, and there may be no display
import matplotlib.pyplot as plt

from mi_common.files import write_atomically


def styles() -> Iterator[dict]:
    """A marker and a colour for each method of a figure; the first fifty differ."""
    for number in itertools.count():
        yield {"marker": "os^Dv"[(number + number // 10) % 5], "color": f"C{number % 10}"}


def plain(name: str, longest: int = 40) -> str:
    """A user's name as text in a figure: no formula, one line, at most `longest` characters."""
    text = " ".join(name.split()).replace("$", r"\$")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def save_figure(figure: plt.Figure, path: Path, *, dpi: int = 150, also_svg: bool = False) -> None:
    """Writes a PNG or SVG atomically, without frames above and to the right; closes the figure.

    With `also_svg` it writes the same figure as `path` with the ending .svg too.
    """
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with warnings.catch_warnings():  # about letters that no font has, and labels that overlap
        warnings.simplefilter("ignore", UserWarning)
        figure.tight_layout()
        for file in [path, path.with_suffix(".svg")] if also_svg else [path]:
            options = {"dpi": dpi}
            if file.suffix == ".svg":
                options["metadata"] = {"Date": None}  # the same bytes each time
            with plt.rc_context({"svg.hashsalt": path.stem}):
                write_atomically(file, partial(figure.savefig, **options))
    plt.close(figure)
