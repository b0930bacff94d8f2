"""Masks: grey levels above 127, or 0, 1 and 255 as they are; anything else is named."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from infocam.data.masks import read_mask
from mi_common.errors import UserError


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
    refused("2 x 3 pixels, its image 3 x 2")
    grey = "not 8-bit grey levels; want 0 background, 255 foreground"
    palette = Image.new("P", (3, 2))  # class numbers with the colours of PASCAL VOC
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.putpixel((1, 1), 1)
    palette.save(path)
    refused(grey)
    for levels in (np.full((2, 3), 1000), np.full((2, 3, 3), 1), np.full((2, 3, 4), 255)):
        assert cv2.imwrite(str(path), levels.astype(np.uint16))  # Pillow reads a colour as 1 / 256
        refused(grey)


def test_a_mask_that_claims_to_be_huge_is_named_before_it_is_decoded(tmp_path, monkeypatch):
    """40,000 x 4,000 zeros in 20 kB, below Pillow's own limit."""
    path = tmp_path / "1.png"
    rows = zlib.compress(bytes(4_000 * (1 + 40_000 // 8)), 9)
    head = struct.pack(">IIBBBBB", 40_000, 4_000, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    sealed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(sealed))
    assert path.stat().st_size < 25_000
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(UserError, match=r"40000 x 4000 pixels, its image 30 x 20$"),
    ):
        read_mask(path, 30, 20)


def test_a_mask_is_turned_upright_as_pictures_are(tmp_path):
    image = Image.fromarray(np.array([[0, 255, 255]], np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    image.save(tmp_path / "1.png", exif=exif)
    assert read_mask(tmp_path / "1.png", 1, 3).tolist() == [[0], [1], [1]]
