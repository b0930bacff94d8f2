"""The three splits of a data set: training, validation and test."""

import numpy as np
import pytest
import torch
from PIL import Image

from infocam.data.load import image_name, load_splits
from mi_common.errors import UserError


def parts_of(dataset, data_dir, *, images=6, validation=2, test=None):
    return load_splits(
        dataset, data_dir, images_per_class=images, val_per_class=validation, test_images=test
    )


def names(part) -> list[str]:
    return [path.name for path in part.images]


@pytest.mark.parametrize(
    ("images", "validation", "train_numbers", "validation_numbers"),
    [(6, 2, "0123", "45"), (4, 1, "012", "3"), (100, 5, "0", "12345")],
)
def test_the_last_of_each_class_validate(
    tiny_dir, images, validation, train_numbers, validation_numbers
):
    parts = parts_of("tiny-imagenet", tiny_dir, images=images, validation=validation)
    wnids = ["n04", "n02", "n03", "n01"]
    for part, numbers in (("train", train_numbers), ("validation", validation_numbers)):
        assert names(parts[part]) == [f"{wnid}_{i}.JPEG" for wnid in wnids for i in numbers]
        assert parts[part].labels.tolist() == [k for k in range(4) for _ in numbers]
    assert parts["train"].class_names == ["red", "green", "blue", "yellow"]


def test_boxes_frame_the_squares_of_the_pictures(tiny_dir):
    colours = np.array([(220, 40, 40), (40, 200, 60), (60, 60, 230), (230, 220, 50)])
    for part in parts_of("tiny-imagenet", tiny_dir).values():
        assert part.sizes.tolist() == [[64, 64]] * len(part) and len(part.boxes) == len(part)
        for i, ((x0, y0, x1, y1),) in enumerate(part.boxes):
            inside = part.picture(i)[y0 + 1 : y1, x0 + 1 : x1].astype(float)
            assert np.abs(inside.mean(axis=(0, 1)) - colours[part.labels[i]]).max() < 12


@pytest.mark.parametrize(
    ("count", "expected"),
    [(5, [0, 2, 4, 7, 9]), (1, [0]), (12, range(12)), (None, range(12)), (99, range(12))],
)
def test_reported_images_are_spread_over_the_validation_file(tiny_dir, count, expected):
    test = parts_of("tiny-imagenet", tiny_dir, test=count)["test"]
    assert names(test) == [f"val_{i}.JPEG" for i in expected]
    assert test.image_names == [f"val/images/val_{i}" for i in expected]
    everything = parts_of("tiny-imagenet", tiny_dir)["test"]
    assert torch.equal(test.labels, everything.labels[list(expected)])
    assert all(np.array_equal(test.boxes[j], everything.boxes[i]) for j, i in enumerate(expected))


@pytest.mark.parametrize(("images", "validation"), [(5, 5), (5, 6)])
@pytest.mark.parametrize("dataset", ["tiny-imagenet", "scattered-digits", "cub", "folder"])
def test_nothing_left_to_train_on_is_a_user_error(tmp_path, dataset, images, validation):
    with pytest.raises(
        UserError, match=rf"--val-per-class {validation}: must be below --images-per-class 5"
    ):
        parts_of(dataset, tmp_path, images=images, validation=validation)


def test_a_class_with_too_few_files_is_named(tiny_dir):
    for images in (100, None):
        with pytest.raises(UserError, match="class red: only 6 images; lower --val-per-class"):
            parts_of("tiny-imagenet", tiny_dir, images=images, validation=6)


def test_digits_are_drawn_without_end_so_their_number_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"^scattered-digits: .*give --images-per-class$"):
        parts_of("scattered-digits", tmp_path, images=None)


@pytest.mark.parametrize("images", [None, 6, 100])
def test_no_image_is_in_two_parts_and_every_name_is_its_own(tiny_dir, images):
    parts = parts_of("tiny-imagenet", tiny_dir, images=images)
    named = [name for part in parts.values() for name in part.image_names]
    assert len(set(named)) == len(named) == 4 * 6 + 12
    assert parts["validation"].image_names[:3] == [
        "train/n04/images/n04_4",
        "train/n04/images/n04_5",
        "train/n02/images/n02_4",
    ]
    for part in parts.values():
        assert (part.mask_files, len(part)) == (None, len(part.image_names))


def test_a_corrupt_picture_is_named_when_it_is_looked_at(corrupt_tiny):
    root, file = corrupt_tiny("val/images/val_1.JPEG")
    test = parts_of("tiny-imagenet", root)["test"]
    assert test.picture(0).shape == (64, 64, 3)
    with pytest.raises(UserError, match=rf"^{file}: not a readable image"):
        test.picture(1)


def test_a_picture_of_another_size_than_annotated_is_named(corrupt_tiny):
    root, file = corrupt_tiny("val/images/val_1.JPEG")
    Image.new("RGB", (64, 32)).save(file)
    with pytest.raises(UserError) as error:
        parts_of("tiny-imagenet", root)["test"].picture(1)
    assert str(error.value) == f"{file}: 64 x 32 pixels, by its annotation 64 x 64"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("val2/0/a.JPEG", "val2/0/a"),
        ("001.Crow/a", "001.Crow/a"),
        ("a.v2.png", "a.v2"),
        ("a.v2", "a.v2"),
        ("a.jpg.png", "a"),
    ],
)
def test_a_name_is_the_path_without_the_ending_of_an_image(path, name):
    assert image_name(path) == name == image_name(name)


@pytest.mark.parametrize(
    ("dataset", "file", "name"),
    [
        ("tiny-imagenet", "tiny-imagenet-200/wnids.txt", "tiny-imagenet"),
        ("cub", "CUB_200_2011/classes.txt", "cub"),
        ("scattered-digits", "MNIST/raw/train-images-idx3-ubyte", "mnist"),
    ],
)
def test_missing_data_names_file_and_command(tmp_path, dataset, file, name):
    with pytest.raises(UserError) as error:
        parts_of(dataset, tmp_path)
    assert f"looked for {tmp_path}/{file}" in str(error.value)
    assert f"python -m scripts.download_data {name} --data-dir {tmp_path}" in str(error.value)


def test_canvases_are_the_same_whatever_the_other_parts_sizes(digits_dir, small_window):
    few, many = (
        parts_of("scattered-digits", digits_dir, images=i, validation=2, test=t)
        for i, t in ((3, 4), (6, 9))
    )
    assert torch.equal(few["validation"].images, many["validation"].images)
    assert {part: len(d) for part, d in many.items()} == {"train": 40, "validation": 20, "test": 9}
    assert few["validation"].image_names[::19] == ["validation-00000", "validation-00019"]
    assert many["test"].sizes.tolist() == [[64, 64]] * 9
    everything = parts_of("scattered-digits", digits_dir)["test"]
    assert len(everything) == 2000
    pixels = everything.picture(3)
    assert pixels.shape == (64, 64, 3)
    assert all(np.array_equal(pixels[..., c], everything.images[3, 0].numpy()) for c in range(3))


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'coco': no reader"):
        load_splits("coco", tmp_path, images_per_class=None, val_per_class=1)
