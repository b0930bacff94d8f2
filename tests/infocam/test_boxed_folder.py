"""A folder of one's own with boxes.csv and masks, and what is wrong with it in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infocam.data.load import load_splits
from infocam.data.masks import read_mask
from mi_common.errors import UserError

SIZES = {
    **{f"train/{name}/{i}.png": (20 + i, 10) for name in ("cat", "dog") for i in range(3)},
    **{f"test/{name}/{i}.jpg": (16, 30 + i) for name in ("cat", "dog") for i in range(2)},
}
ROWS = ["train/cat/2.png,0,0,21,9", "test/dog/1.jpg,1,2,3,4", "test/cat/0.jpg,15,29,15,29"]
ROWS += ["test/dog/1.jpg,0,0,15,30", "train/dog/2.png,5,5,5,6", "test/cat/1.jpg,4,4,9,9"]
ROWS += ["test/dog/0.jpg,0,1,2,3"]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, size in SIZES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    write_boxes(tmp_path, ROWS)
    return tmp_path


def write_boxes(folder: Path, rows: list[str], header="image,x0,y0,x1,y1") -> Path:
    (folder / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "boxes.csv"


def parts_of(data_dir: Path, **options):
    given = {"images_per_class": None, "val_per_class": 1, "test_images": None} | options
    return load_splits("folder", data_dir, **given)


def refused(data_dir: Path, message: str, **options) -> None:
    with pytest.raises(UserError) as error:
        parts_of(data_dir, **options)
    assert str(error.value) == message


def test_parts_boxes_sizes_and_names(folder):
    parts = parts_of(folder)
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    assert train.image_names == ["train/cat/0", "train/cat/1", "train/dog/0", "train/dog/1"]
    assert [box.shape for box in train.boxes] == [(0, 4)] * 4
    assert validation.image_names == ["train/cat/2", "train/dog/2"]
    assert [box.tolist() for box in validation.boxes] == [[[0, 0, 21, 9]], [[5, 5, 5, 6]]]
    assert validation.sizes.tolist() == [[22, 10], [22, 10]]
    assert test.image_names == ["test/cat/0", "test/cat/1", "test/dog/0", "test/dog/1"]
    assert [box.tolist() for box in test.boxes] == [
        [[15, 29, 15, 29]],
        [[4, 4, 9, 9]],
        [[0, 1, 2, 3]],
        [[1, 2, 3, 4], [0, 0, 15, 30]],
    ]
    assert test.sizes.tolist() == [[16, 30], [16, 31]] * 2
    assert (test.class_names, test.labels.tolist()) == (["cat", "dog"], [0, 0, 1, 1])
    assert parts_of(folder, test_images=2)["test"].image_names == ["test/cat/0", "test/dog/0"]


def test_a_file_of_a_spreadsheet_is_read(folder):
    before = parts_of(folder)["test"].boxes
    text = (folder / "boxes.csv").read_text()
    rows = [f'"{line}"'.replace(",", '","') for line in text.splitlines()]
    (folder / "boxes.csv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n\r\n").encode())
    after = parts_of(folder)["test"].boxes
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("test/cat/0.jpg,3,3,16,9", "box 3 3 16 9 is not inside 0..15, 0..29"),
        ("test/cat/0.jpg,1,3,9,", "['1', '3', '9', ''] are not four whole numbers x0 y0 x1 y1"),
        ("test/cat/0.jpg,1,3,9", "4 cells, not 5"),
        ("cat/0.jpg,1,3,9,9", "no image 'cat/0.jpg'; write it as test/CLASS/1.jpg"),
        ('"test/cat/0.jpg,1,3,9,9', "not CSV (unexpected end of data)"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(folder, row, message):
    file = write_boxes(folder, [ROWS[0], "", row])
    refused(folder, f"{file}, line 4: {message}")


@pytest.mark.parametrize(
    "header", ["", "image,x,y,w,h", "image;x0;y0;x1;y1", "image,x0,y0,x1,y1,y1"]
)
def test_another_header_is_refused(folder, header):
    file = write_boxes(folder, ROWS, header)
    refused(folder, f"{file}, line 1: columns {header}; want the columns image,x0,y0,x1,y1")


def test_a_missing_or_binary_file_is_named(folder):
    file = folder / "boxes.csv"
    file.write_bytes(b"image,x0,y0,x1,y1\n\xff\xfe,1,1,1,1\n")
    refused(folder, f"{file}: not UTF-8 text")
    file.unlink()
    refused(folder, f"no file {file}; want the columns image,x0,y0,x1,y1")


@pytest.mark.parametrize("number", [0, 2, 4, 6])
def test_the_first_validation_or_test_image_without_a_box_is_named(folder, number):
    image = ROWS[number].split(",")[0]
    file = write_boxes(folder, ROWS[:number] + ROWS[number + 1 :])
    want = f"validation and test images need one; add a line {image},x0,y0,x1,y1"
    # also of a test image that is not chosen: it must not come out after hours of training
    refused(folder, f"{file}: no box of {image}; {want}", test_images=1)


def test_two_images_with_one_name_are_refused(folder):
    Image.new("RGB", (9, 9)).save(folder / "test/cat/0.png")
    write_boxes(folder, [*ROWS, "test/cat/0.png,1,1,1,1"])
    message = "test/cat/0.jpg and test/cat/0.png: the same name but for the ending; rename one"
    refused(folder, message)


def test_masks_are_for_the_test_part(folder):
    for name, (width, height) in SIZES.items():
        if name.startswith("test"):
            path = (folder / "masks" / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = np.zeros((height, width), np.uint8)
            levels[3:5, 7] = 255
            Image.fromarray(levels).save(path)
    parts = parts_of(folder)
    assert parts["train"].mask_files is None and parts["validation"].mask_files is None
    assert parts["test"].mask_files[3] == folder / "masks/test/dog/1.png"
    mask = read_mask(parts["test"].mask_files[3], *parts["test"].sizes[3])
    assert np.argwhere(mask).tolist() == [[3, 7], [4, 7]]
    lacking = folder / "masks/test/dog/0.png"
    lacking.unlink()
    refused(folder, f"no mask {lacking}; give every image one, or no folder {folder / 'masks'}")
