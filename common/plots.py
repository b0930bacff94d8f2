"""What the figures of all experiments share: no window, no frame above and to the right."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: figures are files, and there may be no display
import matplotlib.pyplot as plt

from common.records import write_atomically

MARKERS = "os^Dv"


def save_figure(figure: plt.Figure, path: Path, *, dpi: int = 150) -> None:
    """Writes a PNG atomically and frees the figure."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=dpi))
    plt.close(figure)
