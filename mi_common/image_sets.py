"""One type for labelled images, whether they are in memory or in files."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mi_common.errors import UserError
from mi_common.fingerprints import fingerprint
from mi_common.pictures import read_image


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split, with boxes and masks where the data set has them.

    Attributes:
        images: (N, C, H, W) uint8 pixels, C = 1 (grey) or 3 (RGB), or the paths of N files.
        labels: (N,) int64, 0..K-1.
        boxes: an (M, 4) int array x0 y0 x1 y1 of inclusive pixels for each image.
        sizes: (N, 2) int, width and height of each image, in which its boxes and mask are measured.
        image_names: N unique names, the paths without their ending, for tables and saved maps.
        mask_files: N files that `infocam.data.masks` reads.
    """

    name: str
    images: Tensor | list[Path]
    labels: Tensor
    class_names: list[str]
    boxes: list[np.ndarray] | None = None
    sizes: np.ndarray | None = None
    image_names: list[str] | None = None
    mask_files: list[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.images, Tensor)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The number of images and a hash of them and their labels, as "16500 images, 3f2a..."."""
        return fingerprint(self.images, self.labels)

    def select(self, indices: Tensor) -> "ImageSet":
        """The images at the given positions, in the order of the positions."""
        positions = indices.tolist()

        def pick(values: Any) -> Any:
            if isinstance(values, Tensor | np.ndarray):
                return values[positions]
            return None if values is None else [values[i] for i in positions]

        fields = ("images", "labels", "boxes", "sizes", "image_names", "mask_files")
        return replace(self, **{name: pick(getattr(self, name)) for name in fields})

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 pixels; UserError for an unreadable file or another size than `sizes`."""
        if self.in_memory:
            return self.images[index].expand(3, -1, -1).permute(1, 2, 0).numpy()
        path = self.images[index]
        image = read_image(path)
        if self.sizes is not None and image.size != (annotated := tuple(self.sizes[index])):
            size, annotated = (f"{width} x {height}" for width, height in (image.size, annotated))
            raise UserError(f"{path}: {size} pixels, by its annotation {annotated}")
        return np.asarray(image)


class ImageFileDataset(torch.utils.data.Dataset):
    """RGB images of a list of files, through a transform, for a DataLoader.

    With a seed, what a random transform does to an image depends on the seed and the image's
    position alone, in whichever process it is read.
    """

    def __init__(self, paths: list[Path], transform: Callable, *, seed: int | None = None):
        self.paths, self.transform, self.seed = paths, transform, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = read_image(self.paths[index])
        if self.seed is None:
            return self.transform(image)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * len(self.paths) + index)
            return self.transform(image)
