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
    for stem in ("train", "t10k"):  # torchvision wants all four, whichever it reads
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

    def rows(path: Path) -> list[tuple[str, list[str]]]:
        """The place and the tab-separated fields of each line that is not empty."""
        require(path, "tiny-imagenet", data_dir)
        lines = enumerate(path.read_text().splitlines(), start=1)
        return [(f"{path}, line {n}", line.split("\t")) for n, line in lines if line.strip()]

    wnids = [fields[0] for _, fields in rows(root / "wnids.txt")]
    words = {fields[0]: fields[-1] for _, fields in rows(root / "words.txt")}
    class_of = {wnid: k for k, wnid in enumerate(wnids)}
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    entries = []  # place, image, class, box fields
    if split == "train":
        for wnid in wnids:
            folder = root / "train" / wnid
            for place, (file, *box) in rows(folder / f"{wnid}_boxes.txt"):
                entries.append((place, folder / "images" / file, wnid, box))
    else:
        for place, fields in rows(root / "val/val_annotations.txt"):
            file, wnid, *box = [*fields, ""]
            entries.append((place, root / "val/images" / file, wnid, box[:-1]))
    for place, _, wnid, _ in entries:
        if wnid not in class_of:
            raise UserError(f"{place}: class {wnid!r} is not in wnids.txt")
    return ImageFiles(
        "tiny-imagenet",
        [path for _, path, _, _ in entries],
        torch.tensor([class_of[wnid] for _, _, wnid, _ in entries]),
        names,
        [parse_box(box, place, width=64, height=64)[None] for place, _, _, box in entries],
    )


def parse_box(fields: list[str], place: str, *, width: int, height: int) -> np.ndarray:
    """(4,) int x0 y0 x1 y1 of inclusive pixels inside a width x height image."""
    try:
        x0, y0, x1, y1 = map(int, fields)
    except ValueError as error:
        raise UserError(f"{place}: {fields} are not four whole numbers x0 y0 x1 y1") from error
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise UserError(f"{place}: box {x0} {y0} {x1} {y1} is not inside 0..{width - 1}")
    return np.array([x0, y0, x1, y1])


def require(path: Path, name: str, data_dir: Path) -> None:
    """UserError that says what was looked for, where, and how to get it."""
    if not path.exists():
        raise UserError(
            f"no {name} data: looked for {path}; "
            f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"
        )
