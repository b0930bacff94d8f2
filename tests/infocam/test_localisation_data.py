"""The three parts of a data set: what trains, what chooses, what is reported."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from infocam.data import load_parts


def parts_of(dataset, data_dir, *, images=6, held_out=2, test=None):
    return load_parts(
        dataset,
        data_dir,
        images_per_class=images,
        held_out_per_class=held_out,
        test_images=test,
    )


def names(part) -> list[str]:
    return [path.name for path in part.images.paths]


@pytest.mark.parametrize(
    ("images", "held_out", "trained", "chosen"),
    [(6, 2, "0123", "45"), (4, 1, "012", "3"), (100, 5, "0", "12345")],
)
def test_the_last_of_each_class_are_held_out(tiny_dir, images, held_out, trained, chosen):
    parts = parts_of("tiny-imagenet", tiny_dir, images=images, held_out=held_out)
    wnids = ["n04", "n02", "n03", "n01"]
    for part, numbers in (("train", trained), ("held-out", chosen)):
        assert names(parts[part]) == [f"{wnid}_{i}.JPEG" for wnid in wnids for i in numbers]
        assert parts[part].labels.tolist() == [k for k in range(4) for _ in numbers]
    assert parts["train"].class_names == ["red", "green", "blue", "yellow"]


def test_boxes_frame_the_squares_of_the_pictures(tiny_dir):
    colours = np.array([(220, 40, 40), (40, 200, 60), (60, 60, 230), (230, 220, 50)])
    for part in parts_of("tiny-imagenet", tiny_dir).values():
        assert (part.width, part.height, len(part.boxes)) == (64, 64, len(part))
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
    everything = parts_of("tiny-imagenet", tiny_dir)["test"]
    assert torch.equal(test.labels, everything.labels[list(expected)])
    assert all(np.array_equal(test.boxes[j], everything.boxes[i]) for j, i in enumerate(expected))


@pytest.mark.parametrize(("images", "held_out"), [(5, 5), (5, 6)])
@pytest.mark.parametrize("dataset", ["tiny-imagenet", "scattered-digits"])
def test_nothing_left_to_train_on_is_a_user_error(tmp_path, dataset, images, held_out):
    with pytest.raises(
        UserError, match=rf"--held-out-per-class {held_out}: must be below --images-per-class 5"
    ):
        parts_of(dataset, tmp_path, images=images, held_out=held_out)


def test_a_class_with_too_few_files_is_named(tiny_dir):
    with pytest.raises(UserError, match="class red: only 6 training images"):
        parts_of("tiny-imagenet", tiny_dir, images=100, held_out=6)


@pytest.mark.parametrize(
    ("dataset", "file", "name"),
    [
        ("tiny-imagenet", "tiny-imagenet-200/wnids.txt", "tiny-imagenet"),
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
        parts_of("scattered-digits", digits_dir, images=i, held_out=2, test=t)
        for i, t in ((3, 4), (6, 9))
    )
    assert torch.equal(few["held-out"].images, many["held-out"].images)
    assert {part: len(d) for part, d in many.items()} == {"train": 40, "held-out": 20, "test": 9}
    everything = parts_of("scattered-digits", digits_dir)["test"]
    assert len(everything) == 2000
    pixels = everything.picture(3)
    assert np.array_equal(pixels[..., 0], (everything.images[3, 0] * 255).round().byte().numpy())
