"""Masks: grey levels above 127, or 0, 1 and 255 as they are; anything else is named."""

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from infocam.masks import read_mask


def written(path, levels, mode="L"):
    Image.fromarray(np.array(levels, np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("levels", "mask"),
    [
        ([[0, 51, 102], [153, 204, 255]], [[0, 0, 0], [1, 1, 1]]),  # as CUB has them
        ([[0, 127, 128]], [[0, 0, 1]]),
        ([[0, 255, 255]], [[0, 1, 1]]),
        ([[0, 1, 255]], [[0, 1, 255]]),  # written as `mask` returns them
        ([[0, 1, 1]], [[0, 1, 1]]),
        ([[1, 1, 2]], [[0, 0, 0]]),
        ([[0, 0, 0]], [[0, 0, 0]]),
    ],
)
def test_levels_become_foreground_background_and_neither(tmp_path, levels, mask):
    path = written(tmp_path / "1.png", levels)
    found = read_mask(path, len(levels[0]), len(levels))
    assert found.tolist() == mask and found.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_black_and_white_means_the_same_in_every_mode(tmp_path, mode):
    path = written(tmp_path / "1.png", [[0, 255], [255, 0], [0, 0]], mode)
    assert read_mask(path, 2, 3).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_a_mask_that_was_read_reads_back_the_same(tmp_path):
    mask = np.random.default_rng(0).choice([0, 1, 255], (5, 7)).astype(np.uint8)
    assert np.array_equal(read_mask(written(tmp_path / "1.png", mask), 7, 5), mask)


def test_what_is_no_mask_of_the_image_is_named(tmp_path):
    path = tmp_path / "1.png"

    def refused(message: str) -> None:
        with pytest.raises(UserError) as error:
            read_mask(path, 3, 2)
        assert str(error.value) == f"{path}: {message}"

    refused("not a readable mask (FileNotFoundError)")
    path.write_bytes(b"<html>")
    refused("not a readable mask (UnidentifiedImageError)")
    written(path, np.zeros((3, 2)))
    refused("2 x 3 pixels, its image has 3 x 2")
    grey = "not 8-bit grey levels; want 0 background, 255 foreground"
    palette = Image.new("P", (3, 2))  # class numbers with the colours of PASCAL VOC
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.putpixel((1, 1), 1)
    palette.save(path)
    refused(grey)
    Image.fromarray(np.full((2, 3), 1000, np.uint16)).save(path)
    refused(grey)
