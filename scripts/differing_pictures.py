"""The pictures that CAM and infoCAM box differently; see `scripts.figures_pictures`."""

from pathlib import Path

import numpy as np

from infocam.localise import split_maps
from infocam.maps.cam import Maps
from infocam.scoring.metrics import IOU_HIT, predicted_box
from mi_common.errors import UserError
from mi_common.runtime import Runtime
from scripts import localisation

METHODS = ("cam", "infocam")
SHOWN = 4  # pictures in each direction


def differing_pictures(path: Path, *, runtime: Runtime) -> dict[str, np.ndarray]:
    """The arrays that `scripts.figures_boxes.draw_differences` draws, of a run on digits.

    Of the test images that one method boxes right (overlap of at least 0.5) and the other wrong,
    those with the largest difference of overlap, at most four in each direction, infoCAM's first.
    Each method has the threshold that is best on the validation images. `counts` are the numbers of
    such images in each direction.
    """
    opened = localisation.open_run(
        path, data_dir=None, test_images=None, num_workers=0, runtime=runtime
    )
    name = opened.run.settings.data.dataset
    if name != "scattered-digits":
        raise UserError(f"{path} is of {name}; give a run of scattered-digits")
    images = opened.sets["test"]
    maps, boxes, overlaps = {}, {}, {}
    by_split = {
        split: split_maps(opened.classifier, data, Maps([*METHODS], [1])).maps
        for split, data in opened.sets.items()
    }
    for method in METHODS:
        of_method = {split: of_split[method, 1] for split, of_split in by_split.items()}
        maps[method] = of_method["test"]
        overlaps[method], threshold = localisation.overlaps_of_maps(of_method, opened.sets)
        boxes[method] = [
            predicted_box(values, size, threshold, localisation.PROTOCOL, normalisation="minmax")
            for values, size in zip(maps[method], images.sizes, strict=True)
        ]
    cam, infocam = (overlaps[method] for method in METHODS)
    ordered = []
    for right, wrong in ((infocam, cam), (cam, infocam)):
        candidates = np.flatnonzero((right >= IOU_HIT) & (wrong < IOU_HIT))
        gains = right[candidates] - wrong[candidates]
        ordered.append(candidates[np.argsort(-gains, kind="stable")].tolist())
    counts = [len(candidates) for candidates in ordered]
    if not min(counts):
        raise UserError(f"{path}: CAM or infoCAM alone boxes no image right; train it longer")
    shown = [index for candidates in ordered for index in candidates[: min(SHOWN, *counts)]]
    return {
        "counts": np.array(counts),
        "indices": np.array(shown),
        "pictures": np.stack([images.picture(i)[..., 0] for i in shown]),
        "labels": images.labels[shown].numpy(),
        "truths": np.stack([images.boxes[i][0] for i in shown]),
        "methods": np.array(METHODS),
        "maps": np.stack([maps[method][shown] for method in METHODS], axis=1),
        "boxes": np.stack([np.array(boxes[method])[shown] for method in METHODS], axis=1),
        "overlaps": np.stack([overlaps[method][shown] for method in METHODS], axis=1),
    }
