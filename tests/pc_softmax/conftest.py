"""Small data sets in the official layouts, and the real MNIST where it is."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cub_files import write_cub
from tests.idx_files import write_mnist

REPO = Path(__file__).resolve().parents[2]
# Every position that is not listed is a zero, of which the paper's rule keeps 300 a window.
EACH_IN_TRAIN, EACH_IN_WINDOW = 20, 8


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory) -> Path:
    """A data folder with 50,000 + 100 generated images: 480 training, 372 window, 100 official.

    Classes are blocky patterns under noise; class 0 outnumbers each of the others 15 to 1.
    """
    rng = np.random.default_rng(0)
    others = np.arange(1, 10)
    train = np.zeros(50_000, np.uint8)
    train[100 : 100 + 180] = rng.permutation(np.repeat(others, EACH_IN_TRAIN))
    train[40_050 : 40_050 + 72] = rng.permutation(np.repeat(others, EACH_IN_WINDOW))
    official = np.tile(np.arange(10, dtype=np.uint8), 10)
    patterns = (90 * rng.random((10, 7, 7))).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)

    splits = [(patterns[labels], labels) for labels in (train, official)]
    for images, _ in splits:
        for start in (0, 40_000):  # noise where images are used; the others stay cheap
            part = images[start : start + 600]
            part += rng.integers(0, 160, part.shape, np.uint8)
    return write_mnist(tmp_path_factory.mktemp("digits"), *splits)


@pytest.fixture(scope="session")
def real_mnist() -> Path:
    """The data folder of the real MNIST."""
    folder = Path(os.environ.get("PCS_DATA_DIR", REPO / "data"))
    if not (folder / "MNIST/raw/train-labels-idx1-ubyte").is_file():
        pytest.skip(
            f"no MNIST in {folder}; set PCS_DATA_DIR or run python -m scripts.download_data mnist"
        )
    return folder


@pytest.fixture(scope="session")
def cub_dir(tmp_path_factory) -> Path:
    """A data folder with a mini CUB of four classes, from which the paper's rule takes a list.

    Training images: 12, 32, 9 and 10, the rule keeps 10, 30, 9 and 10. Test images: 6, 8, 4 and
    16, the rule keeps 5, 8, 4 and 15. Not to be written to.
    """
    return write_cub(tmp_path_factory.mktemp("cub"), train=[12, 32, 9, 10], test=[6, 8, 4, 16])


@pytest.fixture
def write_pictures(tmp_path):
    """Writes a folder with so many training images and one test image of each class."""

    def write(**numbers: int) -> Path:
        for name, number in numbers.items():
            for split, many in (("train", number), ("test", 1)):
                (tmp_path / split / name).mkdir(parents=True)
                for i in range(many):
                    Image.new("RGB", (6, 5), (i, 0, 0)).save(tmp_path / split / name / f"{i}.png")
        return tmp_path

    return write
