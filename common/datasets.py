"""Readers of the image data sets, boxes where they exist; nothing here downloads.

The files lie under one data folder as `python -m scripts.download_data NAME` leaves them:

    MNIST/raw/*-ubyte   FashionMNIST/raw/*-ubyte   tiny-imagenet-200/   CUB_200_2011/
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from common.errors import UserError

IDX_DATASETS = {"mnist": MNIST, "fashion-mnist": FashionMNIST}


def idx_images(name: str, data_dir: Path, split: str) -> tuple[Tensor, Tensor]:
    """MNIST or Fashion-MNIST as it lies on disk, in file order.

    Args:
        name: "mnist" or "fashion-mnist".
        data_dir: the data folder.
        split: "train" (60,000 images) or "test" (10,000).

    Returns:
        (N, 28, 28) uint8 images and (N,) int64 labels.

    Raises:
        UserError: the files are missing or damaged.
    """
    dataset = IDX_DATASETS[name]
    folder = Path(data_dir) / dataset.__name__ / "raw"
    stem = "train" if split == "train" else "t10k"
    for file in (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"):
        require(folder / file, name, data_dir)
    try:
        data = dataset(data_dir, train=split == "train")
    except Exception as error:
        raise UserError(
            f"{folder}: damaged {split} files ({error}); download {name} again"
        ) from error
    images, labels = data.data, data.targets.long()
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise UserError(f"{folder}: {tuple(images.shape)} images, {len(labels)} labels; damaged")
    return images, labels


@dataclass(frozen=True)
class ImageFiles:
    """One split of a data set of image files."""

    name: str
    paths: list[Path]
    labels: Tensor  # (N,) int64
    class_names: list[str]
    boxes: list[np.ndarray] | None = None  # an (M, 4) int array xyxy an image, inclusive pixels

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: Tensor) -> "ImageFiles":
        """The images of the given positions, in their order."""
        chosen = indices.tolist()
        boxes = None if self.boxes is None else [self.boxes[i] for i in chosen]
        paths = [self.paths[i] for i in chosen]
        return ImageFiles(self.name, paths, self.labels[indices], self.class_names, boxes)


class ImageFileDataset(torch.utils.data.Dataset):
    """RGB images of a list of files, through a transform, for a DataLoader."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], Tensor]):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(read_image(self.paths[index]))


def read_image(path: Path) -> Image.Image:
    """An RGB image.

    Raises:
        UserError: the file is missing or not a readable image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({type(error).__name__})") from error


def tiny_imagenet(data_dir: Path, split: str) -> ImageFiles:
    """Tiny-ImageNet with one box an image: 200 classes, 64 x 64 pixels.

    The annotation holds inclusive corners x0 y0 x1 y1 in 0..63. Training images come in order of
    class and number, validation images in the order of `val_annotations.txt`.

    Args:
        data_dir: the folder that holds `tiny-imagenet-200`.
        split: "train" or "val".

    Raises:
        UserError: missing files, a class that is not in wnids.txt, or an impossible box.
    """
    root = Path(data_dir) / "tiny-imagenet-200"
    wnids = read_lines(root / "wnids.txt", "tiny-imagenet", data_dir)
    words = dict(
        line.split("\t", 1) for line in read_lines(root / "words.txt", "tiny-imagenet", data_dir)
    )
    class_of = {wnid: k for k, wnid in enumerate(wnids)}
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    paths, labels, boxes = [], [], []
    if split == "train":
        sources = [
            (root / f"train/{wnid}/{wnid}_boxes.txt", root / f"train/{wnid}/images", wnid)
            for wnid in wnids
        ]
    else:
        sources = [(root / "val/val_annotations.txt", root / "val/images", None)]
    for annotation, folder, wnid in sources:
        lines = read_lines(annotation, "tiny-imagenet", data_dir)
        for number, line in enumerate(lines, start=1):
            file, *fields = line.split("\t")
            place = f"{annotation}, line {number}"
            label = wnid if wnid is not None else fields.pop(0)
            if label not in class_of:
                raise UserError(f"{place}: class {label!r} is not in wnids.txt")
            paths.append(folder / file)
            labels.append(class_of[label])
            boxes.append(parse_box(fields, place, width=64, height=64)[None])
    return ImageFiles("tiny-imagenet", paths, torch.tensor(labels), names, boxes)


def parse_box(fields: list[str], place: str, *, width: int, height: int) -> np.ndarray:
    """(4,) int x0 y0 x1 y1 of inclusive pixels inside a width x height image."""
    try:
        x0, y0, x1, y1 = map(int, fields)
    except ValueError as error:
        raise UserError(f"{place}: {fields} are not four whole numbers x0 y0 x1 y1") from error
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise UserError(f"{place}: box {x0} {y0} {x1} {y1} is not inside 0..{width - 1}")
    return np.array([x0, y0, x1, y1])


def read_lines(path: Path, name: str, data_dir: Path) -> list[str]:
    """The non-empty lines of a file of a data set; UserError when it is not there."""
    require(path, name, data_dir)
    return [line for line in path.read_text().splitlines() if line.strip()]


def require(path: Path, name: str, data_dir: Path) -> None:
    """UserError that says what was looked for, where, and how to get it."""
    if not path.exists():
        raise UserError(
            f"no {name} data: looked for {path}; "
            f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"
        )
