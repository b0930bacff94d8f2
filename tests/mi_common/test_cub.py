"""CUB-200-2011 on four lines an annotation file, the errors of each, and the real annotations."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mi_common.errors import UserError
from mi_common.image_files import cub

CUB = {
    "classes.txt": "1 001.Crow\n2 002.Grey_Gull\n",
    "images.txt": "1 002.Grey_Gull/b 1.jpg\n2 001.Crow/a.jpg\n"
    "3 001.Crow/c.jpg\n4 002.Grey_Gull/d.jpg\n",
    "image_class_labels.txt": "1 2\n2 1\n3 1\n4 2\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n4 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n2 0 0 9 9\n3 1.2 2.6 3.4 4.2\n4 5.0 6.0 1 2\n",
}
SIZES = {"image_sizes.txt": "1 400 340\n2 10 11\n3 8 9\n4 7 12\n"}  # which may be missing


@pytest.fixture
def cub_root(tmp_path) -> Path:
    """Four images of two classes in the official layout, annotations only."""
    root = tmp_path / "CUB_200_2011"
    root.mkdir()
    for file, text in CUB.items():
        (root / file).write_text(text)
    return root


def test_cub_in_official_order_with_labels_from_0_and_inclusive_corners(cub_root):
    train, test = (cub(cub_root.parent, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ["001.Crow", "002.Grey_Gull"]
    names = ["002.Grey_Gull/b 1.jpg", "001.Crow/c.jpg", "002.Grey_Gull/d.jpg"]
    assert train.images == [cub_root / "images" / name for name in names]
    assert test.images == [cub_root / "images/001.Crow/a.jpg"]
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 1], [0])
    assert train.labels.dtype == torch.int64
    # x, y, x + width, y + height; 1.2 2.6 4.6 6.8 to the nearest whole numbers.
    corners = [[[60, 27, 385, 331]], [[1, 3, 5, 7]], [[5, 6, 6, 8]]]
    assert [box.tolist() for box in train.boxes] == corners
    assert [box.tolist() for box in test.boxes] == [[[0, 0, 9, 9]]]
    assert train.sizes is None and test.sizes is None


def test_sizes_come_from_their_file_where_it_is_there(cub_root):
    (cub_root / "image_sizes.txt").write_text(SIZES["image_sizes.txt"])
    train, test = (cub(cub_root.parent, split) for split in ("train", "test"))
    assert train.sizes.tolist() == [[400, 340], [8, 9], [7, 12]]
    assert test.sizes.tolist() == [[10, 11]]
    assert train.select(torch.tensor([2, 0])).sizes.tolist() == [[7, 12], [400, 340]]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("classes.txt", "2", "'' is not a class name"),
        ("classes.txt", "3 003.Wren", "id '3' instead of 2"),
        ("images.txt", "2", "'' is not a file name"),
        ("images.txt", "two 001.Crow/a.jpg", "id 'two' instead of 2"),
        ("images.txt", "1 001.Crow/a.jpg", "id '1' instead of 2"),
        ("image_class_labels.txt", "2 3", "'3' is not a class id 1..2"),
        ("image_class_labels.txt", "2 0", "'0' is not a class id 1..2"),
        ("image_class_labels.txt", "2 crow", "'crow' is not a class id 1..2"),
        ("image_class_labels.txt", "4 1", "id '4' instead of 2"),
        ("train_test_split.txt", "2 2", "'2' is not 0 or 1"),
        ("train_test_split.txt", "2 -1", "'-1' is not 0 or 1"),
        ("bounding_boxes.txt", "2 1 1 1", "'1 1 1' is not a box x y width height"),
        ("bounding_boxes.txt", "2 1 1 1 1 1", "'1 1 1 1 1' is not a box x y width height"),
        ("bounding_boxes.txt", "2 1 1 0 1", "'1 1 0 1' is not a box"),
        ("bounding_boxes.txt", "2 -1 1 9 1", "'-1 1 9 1' is not a box"),
        ("bounding_boxes.txt", "2 nan 1 9 1", "'nan 1 9 1' is not a box"),
        ("bounding_boxes.txt", "2 1 1 inf 1", "'1 1 inf 1' is not a box"),
        ("bounding_boxes.txt", "2 1 1 9,5 1", "'1 1 9,5 1' is not a box"),
        ("image_sizes.txt", "2 10 11 12", "'10 11 12' is not width and height"),
        ("image_sizes.txt", "2 10 0", "'10 0' is not width and height"),
        ("image_sizes.txt", "2 10 1.5", "'10 1.5' is not width and height"),
        ("image_sizes.txt", "3 10 11", "id '3' instead of 2"),
    ],
)
def test_a_wrong_line_of_cub_is_named_by_file_and_line(cub_root, file, line, message):
    lines = (CUB | SIZES)[file].splitlines()
    lines[1] = f"\n{line}"
    (cub_root / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        cub(cub_root.parent, "test")
    assert str(error.value).startswith(f"{cub_root / file}, line 3: {message}")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("file", [*list(CUB)[2:], *SIZES])
@pytest.mark.parametrize("change", ["less", "more"])
def test_annotations_of_other_images_than_those_of_the_list_are_refused(cub_root, file, change):
    text = (CUB | SIZES)[file]
    more = text + "5" + text.splitlines()[0][1:] + "\n"
    less = text[: text.index("\n4 ")]
    (cub_root / file).write_text(more if change == "more" else less)
    with pytest.raises(UserError) as error:
        cub(cub_root.parent, "train")
    last = {"less": 3, "more": 5}[change]
    assert str(error.value) == f"{cub_root / file}: ends with id {last}, images.txt with 4"


@pytest.mark.parametrize("file", CUB)
def test_a_missing_or_binary_file_of_cub_is_one_line(cub_root, file):
    (cub_root / file).write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(UserError, match=rf"^{cub_root / file}: not UTF-8 text$"):
        cub(cub_root.parent, "train")
    (cub_root / file).unlink()
    with pytest.raises(UserError) as error:
        cub(cub_root.parent, "train")
    command = f"python -m scripts.download_data cub --data-dir {cub_root.parent}"
    assert str(error.value) == f"no cub data: looked for {cub_root / file}; get it with: {command}"


def test_the_real_cub_has_its_known_counts_and_boxes(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "cub-200-2011-annotations.zip") as archive:
        archive.extractall(tmp_path)
    train, test = (cub(tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test), len(train.class_names)) == (5_994, 5_794, 200)
    assert train.labels.bincount().unique().tolist() == [29, 30]
    assert test.labels.bincount().min() == 11
    assert test.images[0].name == "Black_Footed_Albatross_0046_18.jpg"
    assert test.boxes[0].tolist() == [[60, 27, 385, 331]]
    # With x1 = x + width inclusive, boxes that touch the far border end in the last pixel.
    assert (train.sizes.shape, test.sizes.shape) == ((5_994, 2), (5_794, 2))
    assert test.sizes[0].tolist() == [500, 335]
    gap = np.concatenate(test.boxes)[:, 2:] - test.sizes
    assert ((gap == -1).sum(axis=0) > 5 * (gap == 0).sum(axis=0)).all()
