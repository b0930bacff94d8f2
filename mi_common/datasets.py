"""Readers of the image sets that fit into memory, as tensors; nothing here downloads.

The files lie under one data folder as `python -m scripts.download_data NAME` leaves them:

    MNIST/raw/*-ubyte   FashionMNIST/raw/*-ubyte   cifar-10-batches-py/   cifar-100-python/

and Tiny-ImageNet as `mi_common.image_files` reads it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from mi_common.errors import UserError, damaged, require, require_memory
from mi_common.image_files import tiny_imagenet
from mi_common.image_sets import ImageSet
from mi_common.pictures import read_image

IDX_DATASETS = {"mnist": MNIST, "fashion-mnist": FashionMNIST}
CIFAR_DATASETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
IMAGE_SETS = (*IDX_DATASETS, "digits", *CIFAR_DATASETS, "tiny-imagenet")
DIGITS_TRAIN = 1297  # of 1797


def image_tensors(name: str, data_dir: Path, split: str) -> ImageSet:
    """A whole image set as tensors, in the order of its files.

    Args:
        name: one of `IMAGE_SETS`; scikit-learn brings "digits" along.
        split: "train" or "test". Of the digits the first 1,297 train and the last 500 test; their
            17 grey levels are spread over 0..255.

    UserError for missing or damaged files, ValueError for another name or split.
    """
    if name not in IMAGE_SETS or split not in ("train", "test"):
        raise ValueError(f"{name}, {split}: want one of {', '.join(IMAGE_SETS)}; train or test")
    if name in CIFAR_DATASETS:
        return cifar(name, data_dir, split)
    if name == "tiny-imagenet":
        return decode(tiny_imagenet(data_dir, split), side=64)
    if name == "digits":
        data = load_digits()
        part = slice(DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
        images = torch.from_numpy(data.images[part] * (255 / 16)).round().byte()
        labels = torch.from_numpy(data.target[part]).long()
    else:
        images, labels = idx_images(name, data_dir, split)
    names = FashionMNIST.classes if name == "fashion-mnist" else [str(k) for k in range(10)]
    return ImageSet(name, images[:, None], labels, list(names))


def idx_images(name: str, data_dir: Path, split: str) -> tuple[Tensor, Tensor]:
    """MNIST or Fashion-MNIST in file order: (N, 28, 28) uint8 images and (N,) int64 labels."""
    folder = Path(data_dir) / IDX_DATASETS[name].__name__ / "raw"
    stem = "train" if split == "train" else "t10k"
    images = _read_idx(folder / f"{stem}-images-idx3-ubyte", (28, 28), name, data_dir)
    labels = _read_idx(folder / f"{stem}-labels-idx1-ubyte", (), name, data_dir).long()
    if not len(images) == len(labels) > 0:
        sizes = f"{len(images)} {split} images, {len(labels)} labels"
        raise damaged(folder, sizes, name, data_dir)
    if labels.max() > 9:
        raise damaged(folder, f"a {split} label is {labels.max()}, not 0..9", name, data_dir)
    return images, labels


def _read_idx(path: Path, item: tuple[int, ...], name: str, data_dir: Path) -> Tensor:
    """(N, *item) uint8 from an IDX file: a type, N and `item` as big-endian numbers, the bytes.

    torchvision is not asked, which believes the header, and a `processed` folder before the files.
    """
    require(path, name, data_dir)
    if not path.is_file():
        raise damaged(path.parent, f"{path.name} is not a file", name, data_dir)
    header = np.fromfile(path, ">u4", count=2 + len(item)).tolist()
    if len(header) < 2 + len(item) or header[:1] + header[2:] != [0x0801 + len(item), *item]:
        raise damaged(path.parent, f"{path.name} has the header {header}", name, data_dir)
    claimed, size = 4 * len(header) + header[1] * math.prod(item), path.stat().st_size
    if size != claimed:
        reason = f"{path.name} has {size:,} bytes, its header claims {claimed:,}"
        raise damaged(path.parent, reason, name, data_dir)
    require_memory(size, str(path), "free some")
    values = np.fromfile(path, np.uint8)[4 * len(header) :]
    return torch.from_numpy(values).reshape(header[1], *item)


def cifar(name: str, data_dir: Path, split: str) -> ImageSet:
    """CIFAR-10, or CIFAR-100 with its fine labels: (N, 3, 32, 32) images in file order.

    The files are pickles, which can run code: torchvision opens only those whose md5 is that of
    the official file. UserError if a file of either split is missing or another one.
    """
    dataset = CIFAR_DATASETS[name]
    folder = Path(data_dir) / dataset.base_folder
    batches = [file for file, _ in dataset.train_list + dataset.test_list]
    for file in (*batches, dataset.meta["filename"]):
        require(folder / file, name, data_dir)
    try:
        data = dataset(data_dir, train=split == "train")
    except RuntimeError as error:
        raise damaged(folder, "a file with a wrong md5", name, data_dir) from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(name, images, torch.tensor(data.targets), data.classes)


def decode(files: ImageSet, *, side: int) -> ImageSet:
    """All images of a list of files, (N, 3, side, side); UserErrors of `read_image` and sizes."""
    what = f"{files.name}, {len(files):,} images"
    require_memory(len(files) * 3 * side * side, what, "free some")
    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    progress = tqdm(files.images, desc=f"read {files.name}", disable=None)
    for row, path in zip(images, progress, strict=True):
        image = read_image(path)
        if image.size != (side, side):
            raise UserError(f"{path}: {image.width} x {image.height} pixels, not {side} x {side}")
        row.copy_(pil_to_tensor(image))
    return ImageSet(files.name, images, files.labels, files.class_names)
