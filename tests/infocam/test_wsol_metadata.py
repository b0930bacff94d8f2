"""The benchmark's text files: what they say, and every wrong line named by file and line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infocam.data.load import load_splits
from infocam.data.wsol_metadata import read_wsol_split
from mi_common.errors import UserError

SPLIT = {
    "image_ids.txt": "a/1.jpg\nb, c/2.jpg\na/3.jpg\n",
    "class_labels.txt": "a/1.jpg,0\na/3.jpg,4\nb, c/2.jpg,1\n",
    "image_sizes.txt": "b, c/2.jpg,30,20\na/1.jpg,10,11\na/3.jpg,500,1\n",
    "localization.txt": "a/1.jpg,0,0,10,11\nb, c/2.jpg,7,7,7,7\n"
    "a/1.jpg,9,10,9,10\na/3.jpg,3,0,9,0\n",
}


def write_split(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_split(tmp_path / "split", SPLIT)


def test_a_split_in_the_order_of_its_ids(folder):
    split = read_wsol_split(folder)
    assert split.names == ["a/1.jpg", "b, c/2.jpg", "a/3.jpg"]
    assert split.labels.tolist() == [0, 1, 4] and split.labels.dtype == np.int64
    assert split.sizes.tolist() == [[10, 11], [30, 20], [500, 1]]
    # as in the file: several boxes, one of a pixel, one with x1 = x0 + width
    boxes = [[[0, 0, 10, 11], [9, 10, 9, 10]], [[7, 7, 7, 7]], [[3, 0, 9, 0]]]
    assert [own.tolist() for own in split.boxes] == boxes


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("image_ids.txt", "a/1.jpg", "image 'a/1.jpg' for the second time"),
        *(
            ("image_ids.txt", path, f"'{path}' is not a path such as CLASS/1.jpg")
            for path in ("/a/2.jpg", "a/../../2.jpg", "./a/1.jpg", "a//1.jpg")
        ),
        ("image_ids.txt", "a/\0.jpg", "holds a NUL character; not a text file"),
        ("image_ids.txt", "é" * 128, f"'{'é' * 100}...' is not a path such as"),
        ("class_labels.txt", "a/3.jpg", "'a/3.jpg' is not PATH,LABEL"),
        ("class_labels.txt", "a/1.jpg,0", "a second line for its image"),
        ("class_labels.txt", "a/3.jpg,4,4", "no 'a/3.jpg,4' in image_ids.txt"),
        ("class_labels.txt", "a/3.jpg,crow", "label 'crow' is not a whole number from 0 to 999999"),
        ("image_sizes.txt", "a/3.jpg,30", "'a/3.jpg,30' is not PATH,WIDTH,HEIGHT"),
        ("image_sizes.txt", "a/3.jpg,9,9.5", "height '9.5' is not a whole number from 1 to 65535"),
        ("image_sizes.txt", "b, c/2.jpg,30,20", "a second line for its image"),
        ("localization.txt", "b, c/2.jpg,1,2,3", "no 'b' in image_ids.txt; want PATH,X0"),
        ("localization.txt", "2.jpg,1,2,3", "'2.jpg,1,2,3' is not PATH,X0,Y0,X1,Y1"),
        ("localization.txt", "b, c/2.jpg,1,2,3,x", "['1', '2', '3', 'x'] are not four whole"),
        *(
            ("localization.txt", f"b, c/2.jpg,{box}", f"box {box.replace(',', ' ')} is not inside")
            for box in ("5,2,31,9", "5,2,9,21", "30,2,30,9")
        ),
    ],
)
def test_a_wrong_line_is_named_by_file_and_line(folder, file, line, message):
    lines = SPLIT[file].splitlines()
    lines[1] = f"\n{line}"
    (folder / file).write_text("\n".join(lines) + "\n")
    for boxes_optional in (False, True):
        with pytest.raises(UserError) as error:
            read_wsol_split(folder, boxes_optional=boxes_optional)
        assert str(error.value).startswith(f"{folder / file}, line 3: {message}")
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("file", list(SPLIT)[1:])
def test_an_image_without_a_line_is_named(folder, file):
    kept = [line for line in SPLIT[file].splitlines() if not line.startswith("a/3")]
    (folder / file).write_text("\n".join(kept))
    (folder / "image_ids.txt").write_text("\n" + SPLIT["image_ids.txt"])
    with pytest.raises(UserError) as error:
        read_wsol_split(folder)
    place = f"{folder / 'image_ids.txt'}, line 4"
    assert str(error.value) == f"{place}: image 'a/3.jpg' has no line in {folder / file}"


@pytest.mark.parametrize("file", SPLIT)
def test_a_missing_or_binary_file_is_named(folder, file):
    (folder / file).write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match=rf"^{folder / file}: not UTF-8 text$"):
        read_wsol_split(folder)
    (folder / file).unlink()
    with pytest.raises(UserError) as error:
        read_wsol_split(folder)
    assert str(error.value) == f"no file {folder / file}; want {', '.join(SPLIT)} of a split"


def test_a_weak_split_may_lack_boxes_and_with_them_sizes(folder):
    (folder / "localization.txt").write_text("b, c/2.jpg,1,2,3,4\n")
    boxes = [own.tolist() for own in read_wsol_split(folder, boxes_optional=True).boxes]
    assert boxes == [[], [[1, 2, 3, 4]], []]
    (folder / "image_sizes.txt").unlink()
    with pytest.raises(UserError, match=r"^no file .*image_sizes\.txt; want"):
        read_wsol_split(folder, boxes_optional=True)
    (folder / "localization.txt").unlink()
    split = read_wsol_split(folder, boxes_optional=True)
    assert split.sizes is None and [own.shape for own in split.boxes] == [(0, 4)] * 3
    assert split.labels.tolist() == [0, 1, 4]


# As a data set


def split_of(images: dict[str, int], boxes: bool = True) -> dict[str, str]:
    """Metadata of images of 20 x 10 pixels with their labels."""
    files = {
        "image_ids.txt": "".join(f"{image}\n" for image in images),
        "class_labels.txt": "".join(f"{image},{label}\n" for image, label in images.items()),
        "image_sizes.txt": "".join(f"{image},20,10\n" for image in images),
    }
    if boxes:
        files["localization.txt"] = "".join(
            f"{image},{i},1,20,9\n" for i, image in enumerate(images)
        )
    return files


TRAIN = {"crow/1.jpg": 1, "gull/1.jpg": 0, "crow/2.jpg": 1, "gull/2.jpg": 0}
VAL = {"gull/7.jpg": 0, "crow/7.jpg": 1, "crow/8.jpg": 1}
TEST = {"crow/5.jpg": 1, "gull/5.jpg": 0, "gull/6.jpg": 0, "crow/6.jpg": 1}


def benchmark(root: Path, name="CUB", train=TRAIN, val=VAL, test=TEST) -> Path:
    for split, images in (("train", train), ("val", val), ("test", test)):
        write_split(root / f"metadata/{name}/{split}", split_of(images, boxes=split != "train"))
        for image in images:
            (root / name / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (1, 2, 3)).save(root / name / image)
    return root


def parts_of(dataset: str, data_dir: Path, **options):
    given = {"images_per_class": None, "val_per_class": 0, "test_images": None} | options
    return load_splits(dataset, data_dir, **given)


@pytest.mark.parametrize(("dataset", "name"), [("cubv2", "CUB"), ("ilsvrc", "ILSVRC")])
def test_the_validation_split_is_the_benchmarks(tmp_path, dataset, name):
    parts = parts_of(dataset, benchmark(tmp_path, name))
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    assert train.image_names == ["gull/1", "gull/2", "crow/1", "crow/2"]
    assert validation.image_names == ["gull/7", "crow/7", "crow/8"]
    assert test.image_names == ["crow/5", "gull/5", "gull/6", "crow/6"]
    assert (train.labels.tolist(), validation.labels.tolist()) == ([0, 0, 1, 1], [0, 1, 1])
    assert train.class_names == test.class_names == ["gull", "crow"]
    assert [box.tolist() for box in validation.boxes] == [[[i, 1, 20, 9]] for i in range(3)]
    assert [len(box) for box in train.boxes] == [0] * 4
    assert test.sizes.tolist() == [[20, 10]] * 4 and test.mask_files is None
    assert test.images[1] == tmp_path / name / "gull/5.jpg"
    assert np.abs(test.picture(1).astype(int) - (1, 2, 3)).max() <= 2
    few = parts_of(dataset, tmp_path, images_per_class=1, test_images=2)
    assert few["train"].image_names == ["gull/1", "crow/1"] and few["test"].image_names == [
        "crow/5",
        "gull/6",
    ]
    assert few["validation"].image_names == validation.image_names


def test_sizes_of_training_images_may_come_from_their_headers(tmp_path):
    benchmark(tmp_path)
    (tmp_path / "metadata/CUB/train/image_sizes.txt").unlink()
    Image.new("L", (3, 4)).save(tmp_path / "CUB/gull/2.jpg")
    assert parts_of("cubv2", tmp_path)["train"].sizes.tolist() == [
        [20, 10],
        [3, 4],
        *[[20, 10]] * 2,
    ]


@pytest.mark.parametrize(
    "train",
    [
        {"1.jpg": 1, "gull/1.jpg": 0},
        {"birds/1.jpg": 1, "birds/2.jpg": 0},
        {"crow/1.jpg": 1, "raven/1.jpg": 1, "gull/1.jpg": 0},
    ],
)
def test_classes_without_a_folder_of_their_own_are_numbers(tmp_path, train):
    assert parts_of("cubv2", benchmark(tmp_path, train=train))["test"].class_names == ["0", "1"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"val": {"crow/1.jpg": 1}}, ": image 'crow/1.jpg' is both in train and in val"),
        ({"test": {"gull/7.jpg": 0}}, ": image 'gull/7.jpg' is both in val and in test"),
        ({"test": {"emu/1.jpg": 2}}, "/train/class_labels.txt: no image of class 2; want 0..2"),
        ({"train": {"crow/1.jpg": 1}}, "/train/class_labels.txt: no image of class 0; want 0..1"),
    ],
)
def test_splits_that_do_not_fit_together_are_refused(tmp_path, splits, message):
    with pytest.raises(UserError) as error:
        parts_of("cubv2", benchmark(tmp_path, **splits))
    assert str(error.value).startswith(f"{tmp_path / 'metadata/CUB'}{message}")
