"""Pictures of an evaluation: images spread evenly, and those that a score picks."""

from pathlib import Path

import numpy as np
import pandas as pd

from infocam.data.load import LocalisationSet
from infocam.figures.overlay import Overlay, save_gallery
from infocam.localise import RANDOM, Localised
from infocam.scoring.metrics import predicted_box
from infocam.scoring.protocols import Protocol


def overlay(
    data: LocalisationSet,
    found: Localised,
    index: int,
    *,
    protocol: Protocol,
    normalisation: str,
    rows: pd.DataFrame,
) -> Overlay:
    """One image under the maps of all methods, boxes at the thresholds of the held-out images.

    Args:
        rows: of results.csv, of this run.
    """
    label, guess = int(data.labels[index]), int(found.predicted[index])
    title = data.class_names[label]
    title += "" if guess == label else f"\n(predicted {data.class_names[guess]})"
    thresholds = _thresholds(rows)
    maps = {m: v[index] for m, v in found.maps.items() if m != RANDOM}
    boxes = {
        method: predicted_box(
            values, data.sizes[index], thresholds[method], protocol, normalisation=normalisation
        )
        for method, values in maps.items()
    }
    return Overlay(data.picture(index), maps, boxes, data.boxes[index], title)


def _thresholds(rows: pd.DataFrame) -> dict[str, float]:
    chosen = rows[(rows["region_rule"] == "off") & (rows["threshold_rule"] == "held-out")]
    return dict(zip(chosen["method"], chosen["threshold"], strict=True))


def save_overlays(
    folder: Path, data: LocalisationSet, found: Localised, count: int, **options
) -> None:
    """A PNG each of `count` images spread evenly over the part, none of them picked by result.

    Args:
        options: of `overlay`.
    """
    for index in dict.fromkeys(np.linspace(0, len(data) - 1, count).round().astype(int).tolist()):
        save_gallery(folder / f"{index:05d}.png", [overlay(data, found, index, **options)])


def save_galleries(
    folder: Path, data: LocalisationSet, found: Localised, count: int, **options
) -> None:
    """The images with the best and the worst box of infoCAM, and where it differs most from CAM.

    Of the last and the first method, where these are not among the methods. Writes
    `gallery_best.png`, `gallery_worst.png` and `gallery_differ.png`, `count` rows each.
    """
    methods = [method for method in found.maps if method != RANDOM]
    if not count:
        return
    ours = "infocam" if "infocam" in methods else methods[-1]
    theirs = "cam" if "cam" in methods else methods[0]
    thresholds = _thresholds(options["rows"])
    overlaps = {}
    for method in (ours, theirs):
        curves = found.curves[method, 1]
        position = int(np.abs(curves.thresholds - thresholds[method]).argmin())
        overlaps[method] = curves.largest[:, position]
    picks = {"best": -overlaps[ours], "worst": overlaps[ours]}
    if ours != theirs:
        picks["differ"] = -np.abs(overlaps[ours] - overlaps[theirs])
    for name, order in picks.items():
        indices = np.argsort(order, kind="stable")[:count].tolist()
        rows = [overlay(data, found, index, **options) for index in indices]
        save_gallery(folder / f"gallery_{name}.png", rows)
