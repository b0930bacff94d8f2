"""Maps as files: written by an evaluation, or by anybody, and scored without a network.

    DIR/NAME.npy          an (h, w) map an image, of any resolution, sub-folders as NAME has them
    DIR/predictions.csv   image,rank: how many classes have a larger logit than the label; optional

NAME is the image's name in the annotations without its ending, as in the WSOL benchmark.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel

from common.errors import UserError
from common.records import write_atomically
from infocam.annotations import Annotations, map_file, read_annotations, write_annotations
from infocam.box_files import csv_rows
from infocam.data import LocalisationSet
from infocam.localise import Localised
from infocam.masks import read_mask
from infocam.metrics import Curves, Evaluator
from infocam.protocols import Protocol
from infocam.scores import baseline_rows, score_rows

PREDICTIONS = "predictions.csv"


def save_maps(folder: Path, data: LocalisationSet, found: Localised) -> None:
    """Writes METHOD/NAME.npy and METHOD/predictions.csv of all methods, and annotations.csv."""
    write_annotations(folder / "annotations.csv", data)
    ranks = pd.DataFrame({"image": data.names, "rank": found.ranks})
    for method, maps in found.maps.items():
        for name, values in zip(data.names, maps, strict=True):
            path = map_file(folder / method, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
        write_atomically(
            folder / method / PREDICTIONS, lambda path: ranks.to_csv(path, index=False)
        )


def read_map(folder: Path, name: str) -> np.ndarray:
    """The (h, w) map of an image; UserError if it is missing or not one."""
    path = map_file(folder, name)
    if not path.is_file():
        raise UserError(f"{path}: no map of the annotated image {name}")
    try:
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a NumPy array ({type(error).__name__})") from error
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiub":
        raise UserError(f"{path}: shape {values.shape}, {values.dtype}; want an (h, w) map")
    return values


def read_ranks(folder: Path, names: list[str]) -> np.ndarray | None:
    """(N,) ranks of the labels in the order of the names; None without predictions.csv."""
    path = folder / PREDICTIONS
    if not path.exists():
        return None
    ranks = {}
    for place, row in csv_rows(path, ("image", "rank")):
        if not row["rank"].isdecimal():
            raise UserError(f"{place}: rank {row['rank']!r} is not a whole number from 0")
        ranks[row["image"]] = int(row["rank"])
    if missing := [name for name in names if name not in ranks]:
        raise UserError(f"{path}: no line for image {missing[0]}")
    return np.array([ranks[name] for name in names])


def saved_curves(
    folder: Path,
    annotations: Annotations,
    protocol: Protocol,
    *,
    normalisation: str,
    workers: Parallel | None,
) -> Curves:
    """The curves of a folder of maps.

    Raises:
        UserError: a map that is missing or none, an image without a true box, a mask that is none.
    """
    evaluator = Evaluator(protocol, normalisation=normalisation, workers=workers)
    for start in range(0, len(annotations.names), 500):
        part = slice(start, start + 500)
        masks = None
        if annotations.masks is not None:
            where = zip(annotations.masks[part], annotations.sizes[part].tolist(), strict=True)
            masks = [read_mask(path, *size) for path, size in where]
        evaluator.accumulate(
            [read_map(folder, name) for name in annotations.names[part]],
            annotations.boxes[part],
            annotations.sizes[part],
            masks,
        )
    return evaluator.compute()


def evaluate_saved_maps(
    test: tuple[Path, Path],
    held_out: tuple[Path, Path] | None,
    protocol: Protocol,
    *,
    normalisation: str,
    fixed: float,
    workers: Parallel | None,
) -> pd.DataFrame:
    """The rows of results.csv.

    Args:
        test: folder of maps, and annotations (see `read_annotations`).
        held_out: the same of other images, for the threshold.
    """
    pairs = {"test": test} | ({"held-out": held_out} if held_out else {})
    annotations = {part: read_annotations(path) for part, (_, path) in pairs.items()}
    if held_out and (both := set(annotations["test"].names) & set(annotations["held-out"].names)):
        raise UserError(f"image {min(both)} is both held out and reported")
    curves = {
        part: saved_curves(
            maps, annotations[part], protocol, normalisation=normalisation, workers=workers
        )
        for part, (maps, _) in pairs.items()
    }
    names, labels = annotations["test"].names, annotations["test"].labels
    options = {
        "ranks": read_ranks(test[0], names),
        "weights": protocol.weights(np.zeros(len(names)) if labels is None else labels),
    }
    where = {part: (found.boxes, found.sizes) for part, found in annotations.items()}
    rows = list(baseline_rows(where, protocol, **options))
    held_out_curves = curves.get("held-out")
    for row in score_rows(curves["test"], held_out=held_out_curves, fixed=fixed, **options):
        rows.append({"method": test[0].name, "region": 1, "region_rule": "off"} | row)
    return pd.DataFrame([{"run": str(test[0]), "protocol": protocol.name} | row for row in rows])
