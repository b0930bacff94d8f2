"""Pictures of an evaluation: images spread evenly, and images selected by their scores."""

from pathlib import Path

import numpy as np
import pandas as pd

from infocam.figures.overlay import Overlay, save_gallery, save_overlay_arrays
from infocam.names import RANDOM
from infocam.scoring.metrics import ScoredMaps, predicted_box
from infocam.scoring.protocols import Protocol
from mi_common.image_sets import ImageSet


def overlay(
    data: ImageSet,
    scored: ScoredMaps,
    index: int,
    *,
    protocol: Protocol,
    normalisation: str,
    rows: pd.DataFrame,
) -> Overlay:
    """One image under the maps of all methods, with boxes at the thresholds in the run's `rows`."""
    label, prediction = int(data.labels[index]), int(scored.predictions[index])
    title = data.class_names[label]
    if prediction != label:
        title += f"\n(predicted {data.class_names[prediction]})"
    thresholds = _thresholds(rows)
    maps = {method: maps[index] for method, maps in scored.maps.items() if method != RANDOM}
    boxes = {
        method: predicted_box(
            values, data.sizes[index], thresholds[method], protocol, normalisation=normalisation
        )
        for method, values in maps.items()
    }
    return Overlay(data.picture(index), maps, boxes, data.boxes[index], title)


def _thresholds(rows: pd.DataFrame) -> dict[str, float]:
    rows = rows[(rows["region_rule"] == "off") & (rows["threshold_rule"] == "validation")]
    return dict(zip(rows["method"], rows["threshold"], strict=True))


def save_overlays(folder: Path, data: ImageSet, scored: ScoredMaps, count: int, **options) -> None:
    """A PNG and an NPZ each of `count` images, spread evenly; `options` of `overlay`."""
    for index in dict.fromkeys(np.linspace(0, len(data) - 1, count).round().astype(int).tolist()):
        row = overlay(data, scored, index, **options)
        save_gallery(folder / f"{index:05d}.png", [row])
        save_overlay_arrays(folder / f"{index:05d}.npz", row)


def save_galleries(folder: Path, data: ImageSet, scored: ScoredMaps, count: int, **options) -> None:
    """The best and the worst boxes of infoCAM, and the largest differences between it and CAM.

    Writes `gallery_best.png`, `gallery_worst.png` and, if there are two methods,
    `gallery_differ.png`, with `count` images each. The last method replaces a missing infoCAM, and
    the first method a missing CAM. `options` are those of `overlay`.
    """
    methods = [method for method in scored.maps if method != RANDOM]
    if not count:
        return
    ours = "infocam" if "infocam" in methods else methods[-1]
    reference = "cam" if "cam" in methods else methods[0]
    thresholds = _thresholds(options["rows"])
    overlaps = {}
    for method in (ours, reference):
        curves = scored.curves[method, 1]
        position = int(np.abs(curves.thresholds - thresholds[method]).argmin())
        overlaps[method] = curves.largest[:, position]
    sort_keys = {"best": -overlaps[ours], "worst": overlaps[ours]}
    if ours != reference:
        sort_keys["differ"] = -np.abs(overlaps[ours] - overlaps[reference])
    for name, key in sort_keys.items():
        indices = np.argsort(key, kind="stable")[:count].tolist()
        rows = [overlay(data, scored, index, **options) for index in indices]
        save_gallery(folder / f"gallery_{name}.png", rows)
