"""Lists of image files on small folders written here, and the errors that name file and line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mi_common.errors import UserError
from mi_common.image_files import image_folder, other_files, tiny_imagenet
from mi_common.image_sets import ImageFileDataset
from mi_common.pictures import read_image


def test_tiny_imagenet_in_order_with_classes_names_and_corner_boxes(tiny_root):
    root = tiny_root
    train, val = (tiny_imagenet(root.parent, split) for split in ("train", "test"))
    assert train.class_names == val.class_names == ["Egyptian cat", "goldfish", "n03"]
    assert len(train) == 6 and train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.images[3] == root / "train/n01/images/n01_1.JPEG"
    assert val.images == [root / "val/images/val_0.JPEG", root / "val/images/val_1.JPEG"]
    assert val.labels.tolist() == [2, 0]
    assert [box.tolist() for box in val.boxes] == [[[0, 32, 44, 62]], [[52, 55, 57, 59]]]
    assert train.boxes[1].tolist() == [[1, 2, 61, 40]]
    chosen = train.select(torch.tensor([4, 1]))
    assert chosen.images == [train.images[4], train.images[1]]
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
def test_a_wrong_annotation_is_named_by_file_and_line(tiny_root, line, message):
    file = tiny_root / "val/val_annotations.txt"
    first = file.read_text().splitlines()[0]
    file.write_text(f"{first}\n{line}\n")
    with pytest.raises(UserError) as error:
        tiny_imagenet(tiny_root.parent, "test")
    assert str(error.value).startswith(f"{file}, line 2: ")
    assert message in str(error.value)


def test_a_split_without_images_is_refused(tiny_root):
    (tiny_root / "val/val_annotations.txt").write_text("\n")
    with pytest.raises(UserError, match="no images are listed for the split test"):
        tiny_imagenet(tiny_root.parent, "test")


def test_the_real_tiny_imagenet_has_its_known_counts_and_boxes(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "tiny-imagenet-200.zip") as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if n.endswith(".txt")])
        archive.extract("tiny-imagenet-200/val/images/val_0.JPEG", tmp_path)
    train, val = tiny_imagenet(tmp_path, "train"), tiny_imagenet(tmp_path, "test")
    assert (len(train), len(val)) == (20_000, 5_000)
    assert torch.bincount(train.labels).tolist() == [100] * 200
    assert val.boxes[1].tolist() == [[52, 55, 57, 59]]
    goldfish = train.class_names.index("goldfish")
    number = train.labels.tolist().index(goldfish)
    assert train.images[number].name == "n01443537_0.JPEG"
    assert train.boxes[number].tolist() == [[0, 10, 63, 58]]
    assert read_image(val.images[0]).size == (64, 64)
    # Read as corners, boxes have all widths; as widths, x + w would pass the edge in most.
    boxes = np.concatenate(val.boxes)
    assert (boxes[:, 0] + boxes[:, 2] > 64).mean() > 0.3


# A folder of one's own


def write_folder(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_an_image_folder_is_sorted_by_class_and_name(tmp_path):
    write_folder(
        tmp_path,
        *("train/dog/b.JPG", "train/dog/a.webp", "train/dog/c.tiff", "train/dog/notes.txt"),
        *("train/cat/2.Png", "train/cat/10.bmp", "train/cat/.hidden.png", "train/.cache/x.png"),
        *("test/cat/1.jpg", "test/dog/1.jpg", "train/readme.jpg"),
    )
    train, test = (image_folder(tmp_path, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ["cat", "dog"]
    names = ["cat/10.bmp", "cat/2.Png", "dog/a.webp", "dog/b.JPG", "dog/c.tiff"]
    assert train.images == [tmp_path / "train" / name for name in names]
    assert train.labels.tolist() == [0, 0, 1, 1, 1] and train.labels.dtype == torch.int64
    assert test.images == [tmp_path / "test/cat/1.jpg", tmp_path / "test/dog/1.jpg"]
    assert train.boxes is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no folder {root}/train; put the images into train/CLASS and test/CLASS"),
        (["train/cat/1.png"], "no folder {root}/test; put the images into"),
        (["train/1.png", "test/cat/1.png"], "{root}/train: no class folders; want"),
        (["train/cat/1.svg", "test/cat/1.png"], "{root}/train/cat: no images; use files that end"),
        (
            ["train/cat/1.png", "train/ant/1.png", "test/cat/1.png"],
            "{root}: classes in train but not in test: ant",
        ),
        (
            ["train/cat/1.png", "test/cat/1.png", "test/eel/1.png", "test/dog/1.png"],
            "{root}: classes in test but not in train: dog, eel",
        ),
    ],
)
def test_a_wrong_image_folder_is_named_in_one_line(tmp_path, files, message):
    with pytest.raises(UserError) as error:
        image_folder(write_folder(tmp_path, *files), "train")
    assert str(error.value).startswith(message.format(root=tmp_path))
    assert len(str(error.value).splitlines()) == 1


def test_a_class_may_have_no_test_images_where_that_is_asked_for(tmp_path):
    files = ["train/cat/1.png", "train/dog/1.tif", "train/eel/1.gif", "train/eel/x.heic"]
    write_folder(tmp_path, *files, "test/dog/1.png", "test/eel/notes.txt")
    train, test = (image_folder(tmp_path, s, untested_classes=True) for s in ("train", "test"))
    assert train.class_names == test.class_names == ["cat", "dog", "eel"]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2], [1])
    assert other_files(tmp_path) == [tmp_path / "train/eel/x.heic", tmp_path / "test/eel/notes.txt"]
    write_folder(tmp_path, "test/fox/1.png")
    with pytest.raises(UserError, match="classes in test but not in train: fox"):
        image_folder(tmp_path, "test", untested_classes=True)


# Images


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


def test_an_image_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    Image.new("L", (50, 50)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # PIL refuses twice that
    with pytest.raises(UserError, match=r"large\.png: not a readable.*DecompressionBombError"):
        read_image(tmp_path / "large.png")


def test_files_that_cannot_be_decoded_to_the_end_are_refused(tmp_path):
    contents = {
        "whole.png": encoded("PNG"),
        "cut.jpg": encoded("JPEG")[:-300],
        "text.png": b"<html>",
        "whole.webp": encoded("WEBP"),
        "gone.bmp": None,
    }
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    for name in ("whole.png", "whole.webp"):
        assert read_image(tmp_path / name).mode == "RGB"
    for name in ("cut.jpg", "text.png", "gone.bmp"):
        with pytest.raises(UserError, match=f"{name}: not a readable image"):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
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
