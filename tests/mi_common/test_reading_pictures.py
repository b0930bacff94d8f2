"""Every picture is read upright, in 8-bit RGB: in training, in feature extraction, in explain."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import nn

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.features import cached_features
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.pictures import image_size, read_image
from mi_common.runtime import Runtime

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
# Orientation -> what a camera that was held so stores of an upright picture.
STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def save_rotated(path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(PIXELS).transpose(STORED[orientation]).save(path, exif=exif)


@pytest.mark.parametrize("orientation", STORED)
def test_a_rotated_picture_is_the_upright_one_wherever_it_is_read(tmp_path, orientation):
    save_rotated(tmp_path / "a.png", orientation)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), PIXELS)
    assert image_size(tmp_path / "a.png") == (30, 20)
    dataset = ImageFileDataset([tmp_path / "a.png"], lambda image: torch.tensor(image.size))
    assert dataset[0].tolist() == [30, 20]


def test_features_of_a_rotated_picture_are_those_of_the_upright_one(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "0.png")
    save_rotated(tmp_path / "1.png", 6)
    files = ImageSet("two", [tmp_path / f"{i}.png" for i in (0, 1)], torch.zeros(2).long(), ["a"])
    torch.manual_seed(0)
    network = GlobalAveragePoolClassifier(nn.Conv2d(3, 4, 3, stride=4), 4, 1, InputSpec(16))
    cpu = Runtime(torch.device("cpu"))
    maps = cached_features(network, files, tmp_path, kind="maps", runtime=cpu, num_workers=0)
    assert np.array_equal(maps[0], maps[1])


def test_a_16_bit_picture_keeps_its_contrast(tmp_path):
    levels = np.linspace(1000, 61000, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    grey = np.asarray(read_image(tmp_path / "a.png"))
    assert (grey[..., :1] == grey).all()
    assert np.abs(grey[..., 0].ravel().astype(int) - np.arange(256)).max() <= 1


def test_what_is_transparent_is_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = np.asarray(read_image(tmp_path / "a.png"))
    assert (read[:2] == (10, 20, 30)).all() and (read[2:] == 255).all()


def test_levels_that_are_not_finite_are_refused(tmp_path):
    Image.fromarray(np.array([[np.nan, 1.0], [2.0, 3.0]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff: not a readable image"):
        read_image(tmp_path / "a.tiff")
