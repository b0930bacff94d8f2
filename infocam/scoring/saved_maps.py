"""Maps as files: written by an evaluation, or by anybody, and scored without a network.

    DIR/NAME.npy          an (h, w) map an image, of any resolution, sub-folders as NAME has them
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
from infocam.data.load import LocalisationSet
from infocam.data.masks import read_mask
from infocam.localise import Localised
from infocam.scoring.metrics import Curves, Evaluator
from infocam.scoring.protocols import Protocol
from infocam.scoring.scores import baseline_rows, score_rows
from mi_common.annotation_lines import MAX_CLASSES, MAX_PIXELS, MAX_SIDE, brief, whole_number
from mi_common.errors import UserError
from mi_common.files import write_atomically
from mi_common.memory import require_memory

PREDICTIONS = "predictions.csv"
BATCH, BATCH_BYTES = 500, 2**28  # images that are scored at once, and bytes of maps and masks
BYTES_PER_PIXEL = 26  # measured peak memory of scoring an image with a mask
LARGEST_VALUE = 1e37  # of a map: interpolation and differences of such stay within float32


def save_maps(folder: Path, data: LocalisationSet, found: Localised) -> None:
    """Writes METHOD/NAME.npy and METHOD/predictions.csv of all methods, and annotations.csv."""
    write_annotations(folder / "annotations.csv", data)
    ranks = pd.DataFrame({"image": data.names, "rank": found.ranks})
    for method, maps in found.maps.items():
        for name, values in zip(data.names, maps, strict=True):
            path = map_file(folder / method, name)
            write_atomically(path, lambda partial, values=values: np.save(partial, values))
        write_atomically(
            folder / method / PREDICTIONS, lambda path: ranks.to_csv(path, index=False)
        )


def read_map(folder: Path, name: str) -> np.ndarray:
    """The (h, w) map of an image; UserError if it is missing or not one."""
    path = map_file(folder, name)
    require_maps(folder, [name])
    try:
        # Memory mapping refuses a header that claims more than the file holds, before any memory is
        # taken; NumPy warns where the claimed size overflows.
        with np.errstate(over="ignore"):
            values = np.lib.format.open_memmap(path, mode="r")
        if values.offset + values.nbytes != path.stat().st_size:
            raise ValueError("more in the file than its header says")
    except Exception as error:  # a garbled header raises many kinds
        raise UserError(f"{path}: not a NumPy array ({type(error).__name__})") from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiub":
        raise UserError(f"{path}: shape {values.shape}, {values.dtype}; want an (h, w) map")
    if values.size > MAX_PIXELS or max(values.shape) > MAX_SIDE:
        limit = f"sides up to {MAX_SIDE} and {MAX_PIXELS} cells or fewer"
        raise UserError(f"{path}: shape {values.shape}; want {limit}")
    return np.array(values)


def require_maps(folder: Path, names: list[str]) -> None:
    """UserError that names the first image without a map."""
    for name in names:
        path = map_file(folder, name)
        if not os.path.isfile(path):  # unlike the method of Path, also of a name that is too long
            raise UserError(f"{path}: no map of the annotated image {brief(name)}")


def read_ranks(folder: Path, names: list[str]) -> np.ndarray | None:
    """(N,) ranks of the labels in the order of the names; None without predictions.csv.

    Raises:
        UserError: an invalid rank, an image with two lines, or a name without one.
    """
    path = folder / PREDICTIONS
    if not os.path.exists(path):
        return None
    ranks = {}
    for place, row in csv_rows(path, ("image", "rank")):
        image, rank = row["image"], whole_number(row["rank"], 0, MAX_CLASSES - 1)
        if rank is None:
            shown = f"rank '{brief(row['rank'])}'"
            raise UserError(f"{place}: {shown} is not a whole number from 0 to {MAX_CLASSES - 1}")
        if image in ranks:
            raise UserError(f"{place}: a second line for image {brief(image)}; want one")
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
    """The curves of a folder of maps, and the images whose maps are not finite.

    A map with NaN, infinity or a value beyond 1e37 is scored as one that is zero everywhere, as in
    the benchmark's own evaluator (Choe et al. 2020).

    Raises:
        UserError: a map that is missing or none, an image without a true box, a mask that is none,
            or too little memory for the largest image.
    """
    if protocol.frame is None:
        largest = int(annotations.sizes.prod(axis=1).max())
        remedy = "use --protocol wsol, which scores 224 x 224 pixels"
        require_memory(largest * BYTES_PER_PIXEL, f"an image of {largest} pixels", remedy)
    evaluator = Evaluator(protocol, normalisation=normalisation, workers=workers)
    images, not_finite, held = [], [], 0
    for i, name in enumerate(annotations.names):
        values = read_map(folder, name)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not (np.abs(values) <= LARGEST_VALUE).all():
            not_finite.append(name)
            values = np.zeros((1, 1), np.float32)
        mask = None
        if annotations.masks is not None:
            mask = read_mask(annotations.masks[i], *annotations.sizes[i].tolist())
        images.append((values, annotations.boxes[i], annotations.sizes[i], mask))
        held += values.nbytes + (0 if mask is None else mask.nbytes)
        if len(images) == BATCH or held > BATCH_BYTES or i == len(annotations.names) - 1:
            evaluator.accumulate(*zip(*images, strict=True))
            images, held = [], 0
    return evaluator.compute(), not_finite


def evaluate_saved_maps(
    test: tuple[Path, Path],
    held_out: tuple[Path, Path] | None,
    protocol: Protocol,
    *,
    normalisation: str,
    fixed: float,
    workers: Executor | None,
) -> pd.DataFrame:
    """The rows of results.csv; `non_finite_maps` counts the reported maps that are not finite.

    Maps that are not finite, held-out ones too, are counted in a printed line as well.

    Args:
        test: folder of maps, and annotations (see `read_annotations`).
        held_out: the same of other images, for the threshold.
    """
    pairs = {"test": test} | ({"held-out": held_out} if held_out else {})
    annotations = {part: read_annotations(path) for part, (_, path) in pairs.items()}
    if held_out and (both := set(annotations["test"].names) & set(annotations["held-out"].names)):
        raise UserError(f"image {min(both)} is both held out and reported")
    for part, (maps, _) in pairs.items():  # before the work
        require_maps(maps, annotations[part].names)
    names, labels = annotations["test"].names, annotations["test"].labels
    ranks = read_ranks(test[0], names)
    curves, not_finite = {}, {}
    for part, (maps, _) in pairs.items():
        curves[part], not_finite[part] = saved_curves(
            maps, annotations[part], protocol, normalisation=normalisation, workers=workers
        )
        if not_finite[part]:
            count = f"{len(not_finite[part])} of {len(annotations[part].names)} {part} maps"
            print(
                f"Note: {count} hold NaN or infinite values and count as zero everywhere; the "
                f"first is {map_file(maps, not_finite[part][0])}"
            )
    options = {
        "ranks": ranks,
        "weights": protocol.weights(np.zeros(len(names)) if labels is None else labels),
    }
    where = {part: (found.boxes, found.sizes) for part, found in annotations.items()}
    rows = [row | {"non_finite_maps": 0} for row in baseline_rows(where, protocol, **options)]
    held_out_curves = curves.get("held-out")
    for row in score_rows(curves["test"], held_out=held_out_curves, fixed=fixed, **options):
        row |= {"non_finite_maps": len(not_finite["test"])}
        rows.append({"method": test[0].name, "region": 1, "region_rule": "off"} | row)
    return pd.DataFrame([{"run": str(test[0]), "protocol": protocol.name} | row for row in rows])
