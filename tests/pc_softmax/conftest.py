"""A small data set in the paper's layout, and the real one where it is."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]
# Every position that is not listed is a zero, of which the paper's rule keeps 300 a window.
EACH_IN_TRAIN, EACH_IN_WINDOW = 20, 8


def write_idx(path: Path, values: np.ndarray) -> None:
    """The IDX format: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8, copy=False).tobytes())


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

    root = tmp_path_factory.mktemp("digits")
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    for stem, labels in (("train", train), ("t10k", official)):
        images = patterns[labels]
        for start in (0, 40_000):  # noise where images are used; the others stay cheap
            part = images[start : start + 600]
            part += rng.integers(0, 160, part.shape, np.uint8)
        write_idx(folder / f"{stem}-images-idx3-ubyte", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
    return root


@pytest.fixture(scope="session")
def real_mnist() -> Path:
    """The data folder of the real MNIST."""
    folder = Path(os.environ.get("PCS_DATA_DIR", REPO / "data"))
    if not (folder / "MNIST/raw/train-labels-idx1-ubyte").is_file():
        pytest.skip(
            f"no MNIST in {folder}; set PCS_DATA_DIR or run python -m scripts.download_data mnist"
        )
    return folder
