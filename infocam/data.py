"""Images with labels and boxes, in three parts: train, held-out and test.

Networks learn from `train` without its boxes. Whatever is chosen, thresholds above all, is chosen
on `held-out`. What is reported is measured on `test`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.datasets import idx_images
from common.errors import UserError
from common.image_files import ImageFiles, read_image, tiny_imagenet
from infocam.scattered_digits import CANVAS, scattered_digits

DATASETS = ("tiny-imagenet", "scattered-digits")
DIGITS_TRAIN_WINDOW = 50_000  # digits of the training file from here on are for the held-out part
DIGITS_SEEDS = {"train": 0, "held-out": 1, "test": 2}  # of the canvases, the same for every run


@dataclass(frozen=True)
class LocalisationSet:
    """One part of a data set.

    Attributes:
        images: (N, 1, H, W) floats in 0..1, or the list of files.
        labels: (N,) int64.
        boxes: an (M, 4) array x0 y0 x1 y1 of inclusive pixels an image.
        width, height: of the images that the boxes are measured in.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    boxes: list[np.ndarray]
    class_names: list[str]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 pixels of one image."""
        if isinstance(self.images, ImageFiles):
            return np.asarray(read_image(self.images.paths[index]))
        grey = (self.images[index, 0] * 255).byte().numpy()
        return np.repeat(grey[..., None], 3, axis=2)


def load_parts(
    dataset: str,
    data_dir: Path,
    *,
    images_per_class: int,
    held_out_per_class: int,
    test_images: int | None,
) -> dict[str, LocalisationSet]:
    """The parts of a data set by name: "train", "held-out" and "test".

    Args:
        dataset: one of DATASETS.
        images_per_class: training images of each class to use, the held-out ones included.
        held_out_per_class: how many of these are held out: the last ones of each class.
        test_images: how many test images to use, spread evenly; None for all that there are.

    Raises:
        UserError: missing data, or sizes that leave nothing to train on.
    """
    if held_out_per_class >= images_per_class:
        raise UserError(
            f"--held-out-per-class {held_out_per_class}: must be below --images-per-class "
            f"{images_per_class}"
        )
    if dataset == "scattered-digits":
        per_class = {
            "train": images_per_class - held_out_per_class,
            "held-out": held_out_per_class,
        }
        counts = {part: 10 * n for part, n in per_class.items()} | {"test": test_images or 2000}
        return _digit_parts(data_dir, counts)
    return _tiny_imagenet_parts(data_dir, images_per_class, held_out_per_class, test_images)


def _digit_parts(data_dir: Path, counts: dict[str, int]) -> dict[str, LocalisationSet]:
    images, labels = idx_images("mnist", data_dir, "train")
    sources = {
        "train": (images[:DIGITS_TRAIN_WINDOW], labels[:DIGITS_TRAIN_WINDOW]),
        "held-out": (images[DIGITS_TRAIN_WINDOW:], labels[DIGITS_TRAIN_WINDOW:]),
        "test": idx_images("mnist", data_dir, "test"),
    }
    names = [str(digit) for digit in range(10)]
    parts = {}
    for part, source in sources.items():
        canvases, classes, boxes = scattered_digits(*source, counts[part], DIGITS_SEEDS[part])
        pixels = canvases.unsqueeze(1).float() / 255
        parts[part] = LocalisationSet(pixels, classes, boxes, names, CANVAS, CANVAS)
    return parts


def _tiny_imagenet_parts(
    data_dir: Path, images_per_class: int, held_out_per_class: int, test_images: int | None
) -> dict[str, LocalisationSet]:
    everything, test = (tiny_imagenet(data_dir, split) for split in ("train", "val"))
    kept, held_out = [], []
    for k in range(len(everything.class_names)):
        own = (everything.labels == k).nonzero().flatten()[:images_per_class]
        if len(own) <= held_out_per_class:
            raise UserError(f"class {everything.class_names[k]}: only {len(own)} training images")
        split = len(own) - held_out_per_class
        kept.append(own[:split])
        held_out.append(own[split:])
    count = min(test_images or len(test), len(test))
    spread = torch.arange(count) * len(test) // count
    chosen = {
        "train": everything.select(torch.cat(kept)),
        "held-out": everything.select(torch.cat(held_out)),
        "test": test.select(spread),
    }
    return {
        part: LocalisationSet(files, files.labels, files.boxes, files.class_names, 64, 64)
        for part, files in chosen.items()
    }
