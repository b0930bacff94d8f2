"""Readers on small files written here, and the errors for what is missing or damaged."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.datasets import (
    IMAGE_SETS,
    ImageFileDataset,
    idx_images,
    image_tensors,
    parse_box,
    read_image,
    tiny_imagenet,
)
from common.errors import UserError

FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def command(name: str, data_dir: Path) -> str:
    return f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"


def write_idx(path: Path, values: np.ndarray) -> None:
    """The IDX format: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def write_idx_dataset(data_dir: Path, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = data_dir / FOLDERS[name] / "raw"
    folder.mkdir(parents=True)
    written = {}
    for split, stem, n in (("train", "train", 7), ("test", "t10k", 3)):
        images = np.random.default_rng(n).integers(0, 256, (n, 28, 28))
        labels = np.arange(n) % 10
        write_idx(folder / f"{stem}-images-idx3-ubyte", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
        written[split] = images, labels
    return written


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx_images_are_read_as_they_lie_on_disk(tmp_path, name, split):
    images, labels = write_idx_dataset(tmp_path, name)[split]
    read = idx_images(name, tmp_path, split)
    assert (read[0].dtype, read[1].dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(read[0].numpy(), images)
    assert np.array_equal(read[1].numpy(), labels)


def test_missing_data_is_one_line_with_path_and_command(tmp_path):
    with pytest.raises(UserError) as error:
        idx_images("mnist", tmp_path, "train")
    assert str(error.value) == (
        f"no mnist data: looked for {tmp_path}/MNIST/raw/train-images-idx3-ubyte; "
        f"{command('mnist', tmp_path)}"
    )
    with pytest.raises(UserError, match=r"no tiny-imagenet data.*wnids.*download_data tiny-image"):
        tiny_imagenet(tmp_path, "train")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_one_missing_file_of_either_split_is_not_called_damaged(tmp_path, split, file):
    write_idx_dataset(tmp_path, "mnist")
    (tmp_path / "MNIST/raw" / file).unlink()
    try:
        images, _ = idx_images("mnist", tmp_path, split)
    except UserError as error:
        assert f"looked for {tmp_path}/MNIST/raw/{file}" in str(error)
    else:
        assert len(images) == {"train": 7, "test": 3}[split]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other length", "other size"])
def test_damaged_idx_files_are_one_line_user_errors(tmp_path, damage):
    write_idx_dataset(tmp_path, "mnist")
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    if damage == "other length":
        write_idx(file, np.zeros((6, 28, 28)))
    elif damage == "other size":
        write_idx(file, np.zeros((7, 32, 32)))
    else:
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "cut": whole[:1000], "text": b"<html>404</html>"}[damage])
    with pytest.raises(UserError, match="damaged") as error:
        idx_images("mnist", tmp_path, "train")
    assert str(error.value).startswith(f"{tmp_path}/MNIST/raw: ")
    assert str(error.value).endswith(f"; delete it and {command('mnist', tmp_path)}")
    assert len(str(error.value).splitlines()) == 1


def write_tiny_imagenet(data_dir: Path) -> Path:
    root = data_dir / "tiny-imagenet-200"
    (root / "val/images").mkdir(parents=True)
    (root / "wnids.txt").write_text("n02\nn01\nn03\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tEgyptian cat\n")
    for wnid in ("n01", "n02", "n03"):
        folder = root / "train" / wnid
        (folder / "images").mkdir(parents=True)
        lines = [f"{wnid}_{i}.JPEG\t{i}\t2\t6{i}\t40\n" for i in range(2)]
        (folder / f"{wnid}_boxes.txt").write_text("".join(lines))
    (root / "val/val_annotations.txt").write_text(
        "val_0.JPEG\tn03\t0\t32\t44\t62\nval_1.JPEG\tn02\t52\t55\t57\t59\n"
    )
    return root


def test_tiny_imagenet_in_order_with_classes_names_and_corner_boxes(tmp_path):
    root = write_tiny_imagenet(tmp_path)
    train, val = tiny_imagenet(tmp_path, "train"), tiny_imagenet(tmp_path, "val")
    assert train.class_names == val.class_names == ["Egyptian cat", "goldfish", "n03"]
    assert len(train) == 6 and train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.paths[3] == root / "train/n01/images/n01_1.JPEG"
    assert val.paths == [root / "val/images/val_0.JPEG", root / "val/images/val_1.JPEG"]
    assert val.labels.tolist() == [2, 0]
    assert [box.tolist() for box in val.boxes] == [[[0, 32, 44, 62]], [[52, 55, 57, 59]]]
    assert train.boxes[1].tolist() == [[1, 2, 61, 40]]
    chosen = train.select(torch.tensor([4, 1]))
    assert chosen.paths == [train.paths[4], train.paths[1]]
    assert chosen.labels.tolist() == [2, 0]
    assert [box.tolist() for box in chosen.boxes] == [[[0, 2, 60, 40]], [[1, 2, 61, 40]]]


@pytest.mark.parametrize(
    "line, message",
    [
        ("val_1.JPEG\tn02\t5\t55\t4\t59", "box 5 55 4 59"),  # x1 before x0: no x y width height
        ("val_1.JPEG\tn02\t5\t55\t64\t59", "box 5 55 64 59 is not inside 0..63"),
        ("val_1.JPEG\tn02\t-1\t5\t6\t9", "box -1 5 6 9"),
        ("val_1.JPEG\tn02\t1\t5\t6", "not four whole numbers"),
        ("val_1.JPEG\tn02\t1\t5\t6\t7.5", "not four whole numbers"),
        ("val_1.JPEG\tn99\t1\t5\t6\t9", "class 'n99' is not in wnids.txt"),
        ("val_1.JPEG", ""),
    ],
)
def test_a_wrong_annotation_is_named_by_file_and_line(tmp_path, line, message):
    file = write_tiny_imagenet(tmp_path) / "val/val_annotations.txt"
    first = file.read_text().splitlines()[0]
    file.write_text(f"{first}\n{line}\n")
    with pytest.raises(UserError) as error:
        tiny_imagenet(tmp_path, "val")
    assert str(error.value).startswith(f"{file}, line 2: ")
    assert message in str(error.value)


def test_the_line_is_counted_as_an_editor_counts_it(tmp_path):
    file = write_tiny_imagenet(tmp_path) / "train/n01/n01_boxes.txt"
    file.write_text("n01_0.JPEG\t0\t2\t60\t40\n\nn01_1.JPEG\t9\t2\t8\t40\n")
    with pytest.raises(UserError, match=r"n01_boxes\.txt, line 3: "):
        tiny_imagenet(tmp_path, "train")


@given(st.lists(st.integers(-2, 70), min_size=4, max_size=4))
def test_a_box_is_accepted_exactly_when_it_holds_a_pixel_of_the_image(corners):
    x0, y0, x1, y1 = corners
    inside = [(x, y) for x in (x0, x1) for y in (y0, y1) if 0 <= x < 60 and 0 <= y < 50]
    if len(inside) == 4 and x0 <= x1 and y0 <= y1:
        assert parse_box(list(map(str, corners)), "here", width=60, height=50).tolist() == corners
    else:
        with pytest.raises(UserError, match=r"^here: "):
            parse_box(list(map(str, corners)), "here", width=60, height=50)


def test_the_real_tiny_imagenet_has_its_known_counts_and_boxes(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "tiny-imagenet-200.zip") as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if n.endswith(".txt")])
        archive.extract("tiny-imagenet-200/val/images/val_0.JPEG", tmp_path)
    train, val = tiny_imagenet(tmp_path, "train"), tiny_imagenet(tmp_path, "val")
    assert (len(train), len(val)) == (20_000, 5_000)
    assert torch.bincount(train.labels).tolist() == [100] * 200
    assert val.boxes[1].tolist() == [[52, 55, 57, 59]]
    goldfish = train.class_names.index("goldfish")
    number = train.labels.tolist().index(goldfish)
    assert train.paths[number].name == "n01443537_0.JPEG"
    assert train.boxes[number].tolist() == [[0, 10, 63, 58]]
    assert read_image(val.paths[0]).size == (64, 64)
    # Read as corners, boxes have all widths; as widths, x + w would pass the edge in most.
    boxes = np.concatenate(val.boxes)
    assert (boxes[:, 0] + boxes[:, 2] > 64).mean() > 0.3


def encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def test_images_of_every_mode_become_rgb_and_go_through_the_transform(tmp_path):
    for number, (mode, colour) in enumerate({"L": 7, "RGBA": (7, 7, 7, 9), "P": 0}.items()):
        Image.new(mode, (5, 4), colour).save(tmp_path / f"{number}.png")
        assert read_image(tmp_path / f"{number}.png").mode == "RGB"
    assert read_image(tmp_path / "0.png").getpixel((4, 3)) == (7, 7, 7)
    dataset = ImageFileDataset([tmp_path / "0.png"], lambda image: torch.tensor(image.size))
    assert len(dataset) == 1 and dataset[0].tolist() == [5, 4]


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.png: not a readable image \(FileNotFoundError\)"):
        read_image(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF"]), st.data())
def test_a_corrupt_image_is_read_or_named_in_one_line(tmp_path_factory, kind, data):
    """Cut, or with bytes changed: an RGB image or a UserError, and nothing else."""
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "corrupt.image"
    path.write_bytes(content)
    try:
        assert read_image(path).mode == "RGB"
    except UserError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1


# Whole image sets as tensors


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
    paths = tiny_imagenet(root.parent, split).paths
    for path, colour in zip(paths, COLOURS, strict=False):
        image = Image.new("RGB", (64, 64), colour)
        image.paste((0, 0, 0), (0, 0, 16, 64))
        image.save(path, "JPEG", quality=95, subsampling=0)  # no colour across the edge
    return paths


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("test", "val")])
def test_tiny_imagenet_is_decoded_in_order_and_test_is_its_validation(tmp_path, split, folder):
    root = write_tiny_imagenet(tmp_path)
    paths = write_images(root, folder)
    Image.new("L", (64, 64), 77).save(paths[-1], "JPEG")  # some of the real ones are grey
    data, files = image_tensors("tiny-imagenet", tmp_path, split), tiny_imagenet(tmp_path, folder)
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
def test_an_image_of_tiny_imagenet_that_is_not_one_is_named(tmp_path, damage, message):
    path = write_images(write_tiny_imagenet(tmp_path), "val")[1]
    damage(path)
    with pytest.raises(UserError, match=rf"val_1\.JPEG: {message}") as error:
        image_tensors("tiny-imagenet", tmp_path, "test")
    assert str(error.value).startswith(str(path)) and str(error.value).count("\n") == 0
