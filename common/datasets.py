"""Readers of the image data sets, boxes where they exist; nothing here downloads.

The files lie under one data folder as `python -m scripts.download_data NAME` leaves them:

    MNIST/raw/*-ubyte     FashionMNIST/raw/*-ubyte   tiny-imagenet-200/   CUB_200_2011/
    cifar-10-batches-py/  cifar-100-python/
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from common.errors import UserError

IDX_DATASETS = {"mnist": MNIST, "fashion-mnist": FashionMNIST}
CIFAR_DATASETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
IMAGE_SETS = (*IDX_DATASETS, "digits", *CIFAR_DATASETS, "tiny-imagenet")
DIGITS_TRAIN = 1297  # of 1797


@dataclass(frozen=True)
class ImageTensors:
    """One split of an image set, all of it in memory."""

    images: Tensor  # (N, C, H, W) uint8, C = 1 (grey) or 3 (RGB)
    labels: Tensor  # (N,) int64, 0..K-1
    class_names: list[str]  # K


def image_tensors(name: str, data_dir: Path, split: str) -> ImageTensors:
    """A whole image set as tensors, in the order of its files.

    Args:
        name: one of `IMAGE_SETS`.
        data_dir: the data folder; not used for "digits", which scikit-learn brings along.
        split: "train", or "test" for the official test images; of Tiny-ImageNet, whose test labels
            are not published, the official validation images. The digits have no official split:
            here the first 1,297 train and the last 500 test.

    Returns:
        (N, 1, 28, 28) for the MNIST family, (N, 1, 8, 8) for the digits, whose 17 grey levels are
        spread over 0..255, (N, 3, 32, 32) for CIFAR, (N, 3, 64, 64) for Tiny-ImageNet.

    Raises:
        UserError: files are missing or damaged.
        ValueError: another name or split.
    """
    if name not in IMAGE_SETS or split not in ("train", "test"):
        raise ValueError(f"{name}, {split}: want one of {', '.join(IMAGE_SETS)}; train or test")
    if name in CIFAR_DATASETS:
        return cifar(name, data_dir, split)
    if name == "tiny-imagenet":
        return decode(tiny_imagenet(data_dir, "train" if split == "train" else "val"), side=64)
    if name == "digits":
        data = load_digits()
        part = slice(DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
        images = torch.from_numpy(data.images[part] * (255 / 16)).round().byte()
        labels = torch.from_numpy(data.target[part]).long()
    else:
        images, labels = idx_images(name, data_dir, split)
    names = FashionMNIST.classes if name == "fashion-mnist" else [str(k) for k in range(10)]
    return ImageTensors(images[:, None], labels, list(names))


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
        raise damaged(folder, f"{split} files: {error}", name, data_dir) from error
    images, labels = data.data, data.targets.long()
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        found = f"{tuple(images.shape)} images, {len(labels)} labels"
        raise damaged(folder, found, name, data_dir)
    return images, labels


def cifar_files(name: str) -> tuple[str, ...]:
    """What torchvision reads in the folder of "cifar10" or "cifar100"."""
    dataset = CIFAR_DATASETS[name]
    batches = [file for file, _ in dataset.train_list + dataset.test_list]
    return (*batches, dataset.meta["filename"])


def cifar(name: str, data_dir: Path, split: str) -> ImageTensors:
    """CIFAR-10, or CIFAR-100 with its fine labels: (N, 3, 32, 32) images in file order.

    The files are pickles, which can run code: torchvision opens only those whose md5 is that of
    the official file.

    Raises:
        UserError: a file of either split is missing or another one.
    """
    dataset = CIFAR_DATASETS[name]
    folder = Path(data_dir) / dataset.base_folder
    for file in cifar_files(name):
        require(folder / file, name, data_dir)
    try:
        data = dataset(data_dir, train=split == "train")
    except RuntimeError as error:
        raise damaged(folder, "a file with a wrong md5", name, data_dir) from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageTensors(images, torch.tensor(data.targets), data.classes)


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


def decode(files: ImageFiles, *, side: int) -> ImageTensors:
    """All images of a list of files, (N, 3, side, side), in one process with a progress bar.

    Raises:
        UserError: a file is missing, not a readable image or of another size.
    """
    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    progress = tqdm(files.paths, desc=f"read {files.name}", disable=None)
    for row, path in zip(images, progress, strict=True):
        image = read_image(path)
        if image.size != (side, side):
            raise UserError(f"{path}: {image.width} x {image.height} pixels, not {side} x {side}")
        row.copy_(pil_to_tensor(image))
    return ImageTensors(images, files.labels, files.class_names)


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
        raise UserError(f"no {name} data: looked for {path}; {remedy(name, data_dir)}")


def damaged(folder: Path, reason: str, name: str, data_dir: Path) -> UserError:
    """To be raised; the download replaces nothing that is there, hence the deletion."""
    return UserError(f"{folder}: damaged ({reason}); delete it and {remedy(name, data_dir)}")


def remedy(name: str, data_dir: Path) -> str:
    return f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"
