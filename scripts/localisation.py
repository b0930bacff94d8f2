"""What the studies of localisation share: a run with its images, and hits of maps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infocam.evaluation import read_images
from infocam.models.classifiers import TrainedRun, read_run, run_classifier
from infocam.scoring.choice import best_position
from infocam.scoring.metrics import IOU_HIT, Evaluator
from infocam.scoring.protocols import PROTOCOLS
from infocam.scoring.scores import resampled
from mi_common.image_sets import ImageSet
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier

PROTOCOL = PROTOCOLS["infocam"]


@dataclass(frozen=True)
class OpenRun:
    """A finished run of `infocam.train` with its network and its validation and test images."""

    run: TrainedRun
    sets: dict[str, ImageSet]
    classifier: ImageClassifier


def open_run(
    path: Path,
    *,
    data_dir: Path | None,
    test_images: int | None,
    num_workers: int,
    runtime: Runtime,
) -> OpenRun:
    """Reads a run; UserError as in `infocam.evaluate`."""
    run = read_run(path)
    (sets,) = read_images([run], data_dir, test_images)
    classifier = ImageClassifier(
        run_classifier(path, runtime=runtime).network,
        head_only=run.settings.freeze_backbone,
        cache_dir=(data_dir or run.data_dir) / "features",
        num_workers=num_workers,
        runtime=runtime,
    )
    return OpenRun(run, sets, classifier)


def overlaps_of_maps(
    maps: dict[str, np.ndarray], sets: dict[str, ImageSet]
) -> tuple[np.ndarray, float]:
    """(N,) overlaps (IoU) of the test images' boxes at the best validation threshold, and that.

    `maps` are (N, h, w) floats by split.
    """
    curves = {}
    for split, values in maps.items():
        evaluator = Evaluator(PROTOCOL)
        evaluator.accumulate(values, sets[split].boxes, sets[split].sizes)
        curves[split] = evaluator.compute()
    position = best_position(curves["validation"])
    return curves["test"].largest[:, position], curves["test"].thresholds[position]


def hits_of_maps(maps: dict[str, np.ndarray], sets: dict[str, ImageSet]) -> np.ndarray:
    """(N,) bool of the test images: whether the box of `overlaps_of_maps` hits."""
    return overlaps_of_maps(maps, sets)[0] >= IOU_HIT


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """The mean of (N,) values of the images, and its 95 % bootstrap interval (_low, _high)."""
    means = resampled(len(values)) @ values.astype(np.float32) / len(values)
    low, high = np.percentile(means, (2.5, 97.5))
    return {name: float(values.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
