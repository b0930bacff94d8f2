"""Maps in files, of an evaluation or of another program, scored without a network.

    DIR/NAME.npy          an (h, w) map per image, of any resolution; NAME may contain sub-folders
    DIR/predictions.csv   image,rank: how many classes have a larger logit than the label; optional

NAME is the image's name in the annotations without its ending, as in the WSOL benchmark.
"""

import os
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from infocam.data.annotations import Annotations, map_file, read_annotations, write_annotations
from infocam.data.box_files import csv_rows
from infocam.data.masks import scored_mask
from infocam.scoring.choice import choices
from infocam.scoring.metrics import Curves, Evaluator, ScoredMaps
from infocam.scoring.paired import image_differences
from infocam.scoring.protocols import Protocol
from infocam.scoring.scores import Evaluation, baseline_rows, score_rows
from mi_common.annotation_lines import MAX_CLASSES, MAX_PIXELS, MAX_SIDE, brief, parse_number
from mi_common.errors import UserError, require_memory
from mi_common.files import write_atomically
from mi_common.image_sets import ImageSet
from mi_common.progress import in_blocks

PREDICTIONS = "predictions.csv"
BATCH, BATCH_BYTES = 500, 2**28  # images, and bytes of maps and masks, that are scored at once
BYTES_PER_PIXEL = 26  # measured peak memory of scoring an image with a mask
LARGEST_VALUE = 1e37  # of a map, so that interpolation and differences stay within float32


def save_maps(folder: Path, data: ImageSet, scored: ScoredMaps) -> None:
    """Writes METHOD/NAME.npy and METHOD/predictions.csv of all methods, and annotations.csv."""
    write_annotations(folder / "annotations.csv", data)
    ranks = pd.DataFrame({"image": data.image_names, "rank": scored.ranks})
    for method, maps in scored.maps.items():
        for name, values in zip(data.image_names, maps, strict=True):
            path = map_file(folder / method, name)
            write_atomically(path, lambda partial, values=values: np.save(partial, values))
        predictions = folder / method / PREDICTIONS
        write_atomically(predictions, lambda path: ranks.to_csv(path, index=False))


def read_map(folder: Path, name: str) -> np.ndarray:
    """The (h, w) map of an image; UserError for a file that is missing or no map."""
    path = map_file(folder, name)
    require_maps(folder, [name])
    try:
        # Memory mapping refuses a header that claims more than the file holds before it takes any
        # memory. NumPy warns if the claimed size overflows.
        with np.errstate(over="ignore"):
            values = np.lib.format.open_memmap(path, mode="r")
        if values.offset + values.nbytes != path.stat().st_size:
            raise ValueError("the file is longer than its header says")
    except Exception as error:  # a garbled header raises many kinds
        raise UserError(f"{path}: not a NumPy array ({type(error).__name__})") from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiub":
        raise UserError(f"{path}: shape {values.shape}, {values.dtype}; a map must be (h, w)")
    if values.size > MAX_PIXELS or max(values.shape) > MAX_SIDE:
        limit = f"sides up to {MAX_SIDE} and {MAX_PIXELS} cells or fewer"
        raise UserError(f"{path}: shape {values.shape}; use {limit}")
    return np.array(values)


def require_maps(folder: Path, names: list[str]) -> None:
    """UserError that names the first image without a map."""
    for name in names:
        path = map_file(folder, name)
        if not os.path.isfile(path):  # False for a name that is too long, where Path.is_file fails
            raise UserError(f"{path}: no map of the annotated image {brief(name)}")


def read_ranks(folder: Path, names: list[str]) -> np.ndarray | None:
    """(N,) ranks of the labels in the order of the names; None without predictions.csv.

    UserError for an invalid rank, an image with two lines, or a name without a line.
    """
    path = folder / PREDICTIONS
    if not os.path.exists(path):
        return None
    ranks = {}
    for place, row in csv_rows(path, ("image", "rank")):
        image, rank = row["image"], parse_number("rank", row["rank"], 0, MAX_CLASSES - 1, place)
        if image in ranks:
            raise UserError(f"{place}: a second line for image {brief(image)}; keep one")
        ranks[image] = rank
    if missing := [name for name in names if name not in ranks]:
        raise UserError(f"{path}: no line for image {brief(missing[0])}")
    return np.array([ranks[name] for name in names])


def saved_curves(
    folder: Path,
    annotations: Annotations,
    protocol: Protocol,
    *,
    normalisation: str,
    workers: Executor | None,
) -> tuple[Curves, list[str]]:
    """The curves of a folder of maps, and the names of the images whose maps are not finite.

    A map with NaN, infinity or a value beyond 1e37 is scored like a map of zeros, as in the
    evaluator of the benchmark (Choe et al. 2020).

    UserError for a missing or invalid map or mask, or too little memory for the largest image.
    """
    if protocol.frame is None:
        largest = int(annotations.sizes.prod(axis=1).max())
        remedy = "use --protocol wsol, which scores 224 x 224 pixels"
        require_memory(largest * BYTES_PER_PIXEL, f"an image of {largest} pixels", remedy)
    evaluator = Evaluator(protocol, normalisation=normalisation, workers=workers)
    images, not_finite, num_bytes = [], [], 0
    for (i,) in in_blocks(len(annotations.names), 1, f"maps of {folder}"):
        name = annotations.names[i]
        values = read_map(folder, name)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not (np.abs(values) <= LARGEST_VALUE).all():
            not_finite.append(name)
            values = np.zeros((1, 1), np.float32)
        size = annotations.sizes[i]
        mask = annotations.masks and scored_mask(annotations.masks[i], size, protocol.size(size))
        images.append((values, annotations.boxes[i], size, mask))
        num_bytes += values.nbytes + (0 if mask is None else mask.nbytes)
        if len(images) == BATCH or num_bytes > BATCH_BYTES or i == len(annotations.names) - 1:
            evaluator.accumulate(*zip(*images, strict=True))
            images, num_bytes = [], 0
    return evaluator.compute(), not_finite


def evaluate_saved_maps(
    test: tuple[Path, Path],
    validation: tuple[Path, Path] | None,
    protocol: Protocol,
    *,
    normalisation: str,
    fixed: float,
    workers: Executor | None,
) -> Evaluation:
    """The scores of saved maps; prints how many maps of each part are not finite.

    Args:
        test: folder of maps, and annotations (see `read_annotations`).
        validation: the same of other images, to choose the threshold on; UserError for an image
            in both.
    """
    sources = {"test": test} | ({"validation": validation} if validation else {})
    annotations = {part: read_annotations(path) for part, (_, path) in sources.items()}
    names, labels = annotations["test"].names, annotations["test"].labels
    if validation and (both := set(names) & set(annotations["validation"].names)):
        raise UserError(f"image {min(both)} is in the test and in the validation set; use others")
    for part, (maps, _) in sources.items():  # all errors of files before the work
        require_maps(maps, annotations[part].names)
    ranks = read_ranks(test[0], names)
    curves, not_finite = {}, {}
    for part, (maps, _) in sources.items():
        curves[part], not_finite[part] = saved_curves(
            maps, annotations[part], protocol, normalisation=normalisation, workers=workers
        )
        if not_finite[part]:
            count = f"{len(not_finite[part])} of {len(annotations[part].names)} {part} maps"
            print(
                f"Note: {count} hold NaN or infinite values and are scored like zeros; the first "
                f"is {map_file(maps, not_finite[part][0])}"
            )
    weights = protocol.weights(np.zeros(len(names)) if labels is None else labels)
    options = {"ranks": ranks, "weights": weights}
    boxes = {part: (images.boxes, images.sizes) for part, images in annotations.items()}
    baselines = baseline_rows(boxes["test"], boxes.get("validation"), protocol, **options)
    rows = [row | {"non_finite_maps": 0} for row in baselines]
    described = {"method": test[0].name, "region": 1, "region_rule": "off"}
    described |= {"non_finite_maps": len(not_finite["test"])}
    options |= {"validation": curves.get("validation"), "fixed": fixed}
    rows += [described | row for row in score_rows(curves["test"], **options)]
    shared = {"run": str(test[0]), "protocol": protocol.name}
    table = pd.DataFrame([shared | row for row in rows])
    differences = image_differences(table, ranks=ranks, weights=weights)
    for column, value in reversed(shared.items()):
        differences.insert(0, column, value)
    chosen = choices({(test[0].name, 1): curves["validation"]}) if validation else None
    return Evaluation(table, differences, chosen)
