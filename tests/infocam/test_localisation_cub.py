"""CUB-200-2011 as a localisation set: sizes, boxes beyond the border, masks, the real lists."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infocam.data.load import load_splits
from infocam.data.masks import read_mask
from mi_common.errors import UserError

IMAGES = [  # name, class, whether it trains, width x height, mode
    ("001.Crow/a.jpg", 1, 1, (12, 9), "RGB"),
    ("001.Crow/b.jpg", 1, 0, (10, 20), "L"),
    ("001.Crow/c.jpg", 1, 1, (30, 40), "RGB"),
    ("002.Gull/d.jpg", 2, 1, (8, 8), "RGB"),
    ("002.Gull/e.jpg", 2, 1, (11, 7), "L"),
    ("002.Gull/f.jpg", 2, 0, (16, 5), "RGB"),
]
BOXES = [
    "1 0.0 0.0 4.0 4.0",
    "2 9 19 0.4 0.4",
    "3 1 2 3 4",
    "4 7 7 40 50",
    "5 1 1 1 1",
    "6 2 2 9 1",
]


@pytest.fixture
def cub_dir(tmp_path) -> Path:
    """Two classes of three drawn pictures; the box of b is one pixel, that of d ends outside."""
    root = tmp_path / "CUB_200_2011"
    for folder in ("001.Crow", "002.Gull"):
        (root / "images" / folder).mkdir(parents=True)
    for name, _, _, size, mode in IMAGES:
        Image.new(mode, size, 77 if mode == "L" else (10, 20, 30)).save(root / "images" / name)
    texts = {
        "classes.txt": ["1 001.Crow", "2 002.Gull"],
        "images.txt": [f"{i} {row[0]}" for i, row in enumerate(IMAGES, 1)],
        "image_class_labels.txt": [f"{i} {row[1]}" for i, row in enumerate(IMAGES, 1)],
        "train_test_split.txt": [f"{i} {row[2]}" for i, row in enumerate(IMAGES, 1)],
        "bounding_boxes.txt": BOXES,
    }
    for file, lines in texts.items():
        (root / file).write_text("\n".join(lines) + "\n")
    return tmp_path


def parts_of(data_dir: Path, **options):
    given = {"images_per_class": None, "val_per_class": 1, "test_images": None} | options
    return load_splits("cub", data_dir, **given)


def write_masks(data_dir: Path) -> Path:
    root = data_dir / "CUB_200_2011/segmentations"
    for name, _, _, (width, height), _ in IMAGES:
        levels = np.zeros((height, width), np.uint8)
        levels[1, 2], levels[2, 3] = 153, 102
        path = (root / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
    return root


def test_the_last_training_images_of_each_class_validate(cub_dir):
    parts = parts_of(cub_dir)
    assert {part: images.image_names for part, images in parts.items()} == {
        "train": ["001.Crow/a", "002.Gull/d"],
        "validation": ["001.Crow/c", "002.Gull/e"],
        "test": ["001.Crow/b", "002.Gull/f"],
    }
    assert parts["validation"].labels.tolist() == parts["test"].labels.tolist() == [0, 1]
    assert parts["test"].class_names == ["001.Crow", "002.Gull"]
    assert parts_of(cub_dir, test_images=1)["test"].image_names == ["001.Crow/b"]


def test_sizes_are_read_from_headers_or_from_their_file(cub_dir):
    sizes = {"train": [[12, 9], [8, 8]], "validation": [[30, 40], [11, 7]]}
    sizes["test"] = [[10, 20], [16, 5]]
    assert {part: own.sizes.tolist() for part, own in parts_of(cub_dir).items()} == sizes
    lines = [f"{i} {1000 + i} {2000 + i}" for i in range(1, 7)]
    (cub_dir / "CUB_200_2011/image_sizes.txt").write_text("\n".join(lines))
    for file in cub_dir.rglob("*.jpg"):
        file.unlink()  # the file makes it needless to open any
    assert parts_of(cub_dir)["test"].sizes.tolist() == [[1002, 2002], [1006, 2006]]


def test_boxes_are_kept_as_annotated_even_beyond_the_border(cub_dir):
    parts = parts_of(cub_dir)
    assert [box.tolist() for box in parts["train"].boxes] == [[[0, 0, 4, 4]], [[7, 7, 47, 57]]]
    assert [box.tolist() for box in parts["test"].boxes] == [[[9, 19, 9, 19]], [[2, 2, 11, 3]]]


@pytest.mark.parametrize("box", ["10 3 2 2", "3 20 2 2"])
def test_a_box_outside_its_image_is_named_by_file_and_line(cub_dir, box):
    file = cub_dir / "CUB_200_2011/bounding_boxes.txt"
    file.write_text("\n".join([BOXES[0], "", f"2 {box}", *BOXES[2:]]))
    with pytest.raises(UserError) as error:
        parts_of(cub_dir)
    assert str(error.value) == f"{file}, line 3: the box is outside its image of 10 x 20"


def test_an_unreadable_header_is_named(cub_dir):
    file = cub_dir / "CUB_200_2011/images/001.Crow/b.jpg"
    file.write_bytes(b"<html>")
    with pytest.raises(UserError, match=rf"^{file}: not a readable image"):
        parts_of(cub_dir)


def test_masks_where_the_segmentations_are_installed(cub_dir):
    assert {images.mask_files for images in parts_of(cub_dir).values()} == {None}
    root = write_masks(cub_dir)
    parts = parts_of(cub_dir)
    assert parts["test"].mask_files == [root / "001.Crow/b.png", root / "002.Gull/f.png"]
    assert parts["validation"].mask_files[0] == root / "001.Crow/c.png"
    mask = read_mask(parts["test"].mask_files[1], *parts["test"].sizes[1])
    assert mask.shape == (5, 16) and np.argwhere(mask == 1).tolist() == [[1, 2]]
    (root / "001.Crow/c.png").unlink()
    with pytest.raises(UserError, match=rf"^no mask {root}/001.Crow/c.png; give every image one"):
        parts_of(cub_dir)


def test_the_real_lists(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "cub-200-2011-annotations.zip") as archive:
        archive.extractall(tmp_path)
    parts = parts_of(tmp_path, val_per_class=5)
    assert {part: len(own) for part, own in parts.items()} == {
        "train": 4_994,
        "validation": 1_000,
        "test": 5_794,
    }
    test = parts["test"]
    assert (len(test.boxes), test.sizes.shape, len(test.class_names)) == (5_794, (5_794, 2), 200)
    assert test.image_names[0] == "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18"
    assert (test.boxes[0].tolist(), test.sizes[0].tolist()) == ([[60, 27, 385, 331]], [500, 335])
    beyond = [(own.sizes <= np.concatenate(own.boxes)[:, 2:]).any(axis=1) for own in parts.values()]
    assert [int(rows.sum()) for rows in beyond][2] == 36
    assert sum(int(rows.sum()) for rows in beyond) == 78
    # the benchmark of Choe et al. cuts this one to 92 51 499 354
    number = test.image_names.index("022.Chuck_will_Widow/Chuck_Will_Widow_0051_796991")
    assert test.boxes[number].tolist() == [[92, 51, 532, 354]]
    assert len({name for own in parts.values() for name in own.image_names}) == 11_788
