"""Image sets as tensors, on small files written here, and the errors for what is missing."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mi_common.datasets import IMAGE_SETS, decode, idx_images, image_tensors
from mi_common.errors import UserError
from mi_common.image_files import tiny_imagenet
from tests.idx_files import write_mnist

FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def command(name: str, data_dir: Path) -> str:
    return f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"


def write_idx_dataset(data_dir: Path, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    written = {
        split: (np.random.default_rng(n).integers(0, 256, (n, 28, 28)), np.arange(n) % 10)
        for split, n in (("train", 7), ("test", 3))
    }
    write_mnist(data_dir, **written, base=FOLDERS[name])
    return written


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx_images_are_read_as_they_lie_on_disk(tmp_path, name, split):
    images, labels = write_idx_dataset(tmp_path, name)[split]
    read = idx_images(name, tmp_path, split)
    assert (read[0].dtype, read[1].dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(read[0].numpy(), images)
    assert np.array_equal(read[1].numpy(), labels)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_the_files_of_the_other_split_are_not_asked_for(tmp_path, split, file):
    write_idx_dataset(tmp_path, "mnist")
    (tmp_path / "MNIST/raw" / file).unlink()
    if file.startswith("train") == (split == "train"):
        with pytest.raises(UserError, match=f"looked for {tmp_path}/MNIST/raw/{file}; "):
            idx_images("mnist", tmp_path, split)
    else:
        assert len(idx_images("mnist", tmp_path, split)[0]) == {"train": 7, "test": 3}[split]


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(*header: int) -> bytes:
    return struct.pack(f">{len(header)}I", *header)


HEADERS = {  # what the file holds instead, None for a pipe
    "2^31 images": (IMAGES, idx(2051, 2**31, 28, 28) + bytes(5488), "claims 1,683,627,180,048)"),
    "a byte too many": (
        IMAGES,
        idx(2051, 7, 28, 28) + bytes(5489),
        "5,505 bytes, its header",
    ),
    "huge images": (IMAGES, idx(2051, 7, 2**31, 2**31), "header [2051, 7, 2147483648, 2147483648]"),
    "labels for images": (IMAGES, idx(2049, 7) + bytes(range(7)), "the header [2049, 7, 66051]"),
    "no images": (IMAGES, idx(2051, 0, 28, 28), "0 train images, 7 labels"),
    "no label": (LABELS, idx(2049, 0), "7 train images, 0 labels"),
    "label 10": (LABELS, idx(2049, 7) + bytes([0] * 6 + [10]), "a train label is 10, not 0..9"),
    "pipe": (IMAGES, None, f"{IMAGES} is not a file"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_an_idx_header_is_not_believed(tmp_path, kind):
    write_idx_dataset(tmp_path, "mnist")
    folder, (file, content, reason) = tmp_path / "MNIST/raw", HEADERS[kind]
    (folder / file).unlink()
    os.mkfifo(folder / file) if content is None else (folder / file).write_bytes(content)
    with pytest.raises(UserError) as error:
        idx_images("mnist", tmp_path, "train")
    assert str(error.value).startswith(f"{folder}: damaged (") and reason in str(error.value)
    assert str(error.value).endswith(f"; delete it and {command('mnist', tmp_path)}")


def test_an_idx_file_larger_than_the_memory_is_refused(tmp_path):
    write_idx_dataset(tmp_path, "mnist")
    path = tmp_path / "MNIST/raw" / IMAGES
    path.write_bytes(idx(2051, 2**31, 28, 28))
    os.truncate(path, 16 + 2**31 * 784)  # empty blocks take no space on the disk
    with pytest.raises(UserError, match=r"needs 1,683\.6 GB of memory, .* are available") as error:
        idx_images("mnist", tmp_path, "train")
    assert str(error.value).startswith(f"{path}: ")


def test_tensors_of_an_old_torchvision_are_not_read_in_place_of_the_files(tmp_path):
    """torchvision prefers `processed/training.pt`, whatever the raw files hold."""
    images, labels = write_idx_dataset(tmp_path, "mnist")["train"]
    processed = tmp_path / "MNIST/processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(2, 28, 28), torch.zeros(2)), processed / name)
    read = idx_images("mnist", tmp_path, "train")
    assert np.array_equal(read[0].numpy(), images) and np.array_equal(read[1].numpy(), labels)


def test_images_that_do_not_fit_into_memory_are_refused_before_any_is_read(tiny_root):
    files = tiny_imagenet(tiny_root.parent, "test")
    with pytest.raises(UserError, match=r"^tiny-imagenet, 2 images: needs 6,000\.0 GB of memory"):
        decode(files, side=1_000_000)


@pytest.mark.parametrize("name", [name for name in IMAGE_SETS if name != "digits"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_image_set_is_one_line_with_the_command(tmp_path, name, split):
    with pytest.raises(UserError, match=rf"^no {name} data: looked for {tmp_path}/") as error:
        image_tensors(name, tmp_path, split)
    assert str(error.value).endswith(f"; {command(name, tmp_path)}")


@pytest.mark.parametrize(("name", "split"), [("mnist", "val"), ("cub", "train")])
def test_another_name_or_split_is_no_silent_test_set(tmp_path, name, split):
    with pytest.raises(ValueError, match=f"^{name}, {split}: want one of mnist, .*train or test$"):
        image_tensors(name, tmp_path, split)


@pytest.mark.parametrize(("name", "third"), [("mnist", "2"), ("fashion-mnist", "Pullover")])
def test_the_mnist_family_has_one_channel_and_names(tmp_path, name, third):
    images, labels = write_idx_dataset(tmp_path, name)["test"]
    data = image_tensors(name, tmp_path, "test")
    assert np.array_equal(data.images.numpy(), images[:, None])
    assert np.array_equal(data.labels.numpy(), labels)
    assert len(data.class_names) == 10 and data.class_names[2] == third


def test_the_digits_are_split_in_order_and_reach_from_0_to_255():
    train, test = (image_tensors("digits", Path("none"), split) for split in ("train", "test"))
    assert (train.images.shape, test.images.shape) == ((1297, 1, 8, 8), (500, 1, 8, 8))
    assert (train.images.dtype, train.labels.dtype) == (torch.uint8, torch.int64)
    # The first two rows of the first digit are 0 0 5 13 9 1 0 0 and 0 0 13 15 10 15 5 0.
    first = [[0, 0, 80, 207, 143, 16, 0, 0], [0, 0, 207, 239, 159, 239, 80, 0]]
    assert train.images[0, 0, :2].tolist() == first
    levels = [round(grey * 255 / 16) for grey in range(17)]
    assert torch.cat([train.images, test.images]).unique().tolist() == levels
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert test.labels[-5:].tolist() == [9, 0, 8, 9, 8]
    assert train.class_names == list("0123456789")


COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (90, 90, 90), (0, 0, 0)]


def write_images(root: Path, split: str) -> list[Path]:
    """JPEG files, the left 16 columns of image i black and the others of `COLOURS[i]`."""
    paths = tiny_imagenet(root.parent, split).images
    for path, colour in zip(paths, COLOURS, strict=False):
        image = Image.new("RGB", (64, 64), colour)
        image.paste((0, 0, 0), (0, 0, 16, 64))
        image.save(path, "JPEG", quality=95, subsampling=0)  # no colour across the edge
    return paths


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("test", "val")])
def test_tiny_imagenet_is_decoded_in_order_and_test_is_its_validation(tiny_root, split, folder):
    paths = write_images(tiny_root, split)
    assert all(path.is_relative_to(tiny_root / folder) for path in paths)
    Image.new("L", (64, 64), 77).save(paths[-1], "JPEG")  # some of the real ones are grey
    data = image_tensors("tiny-imagenet", tiny_root.parent, split)
    files = tiny_imagenet(tiny_root.parent, split)
    assert (data.images.shape, data.images.dtype) == ((len(paths), 3, 64, 64), torch.uint8)
    assert torch.equal(data.labels, files.labels) and data.class_names == files.class_names
    wanted = torch.tensor(COLOURS[: len(paths)])[:, :, None, None].repeat(1, 1, 64, 64)
    wanted[:, :, :, :16] = 0
    wanted[-1] = 77
    assert (data.images - wanted).abs().max() <= 4  # JPEG is lossy


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"<html>"), r"not a readable image \(Unidentified\w+\)$"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "not a readable image"),
        (lambda path: path.unlink(), r"not a readable image \(FileNotFoundError\)$"),
        (lambda path: Image.new("RGB", (48, 64)).save(path), "48 x 64 pixels, not 64 x 64$"),
    ],
    ids=["text", "cut", "missing", "size"],
)
def test_an_image_of_tiny_imagenet_that_is_not_one_is_named(tiny_root, damage, message):
    path = write_images(tiny_root, "test")[1]
    damage(path)
    with pytest.raises(UserError, match=rf"val_1\.JPEG: {message}") as error:
        image_tensors("tiny-imagenet", tiny_root.parent, "test")
    assert str(error.value).startswith(str(path)) and str(error.value).count("\n") == 0
