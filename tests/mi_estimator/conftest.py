"""A table and an image set to estimate from, and finished estimates on the table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

from mi_estimator.estimate import main
from tests.idx_files import write_mnist


class Run:
    """The files of a finished estimate; pandas' Python engine reads floats exactly."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.result = json.loads((folder / "estimate.json").read_text())
        self.pmi = pd.read_csv(folder / "pmi.csv", engine="python")
        self.classes = pd.read_csv(folder / "classes.csv", engine="python")


@pytest.fixture(scope="session")
def wine(tmp_path_factory) -> Path:
    """scikit-learn's wines with their cultivars' names as CSV."""
    data = load_wine(as_frame=True)
    names = np.array(["barolo", "grignolino", "barbera"])[data.target]
    path = tmp_path_factory.mktemp("wine") / "wine.csv"
    data.data.assign(cultivar=names).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def estimated(wine, tmp_path_factory):
    """An estimate on the wines with further flags, by LDA unless they say otherwise."""

    def run(*flags, source: tuple | None = None) -> Run:
        folder = tmp_path_factory.mktemp("run") / "out"
        source = source or (wine, "--label", "cultivar", "--estimator", "lda")
        flags = [*source, "--device", "cpu", "--output-dir", folder, *flags]
        main([str(word) for word in flags])
        return Run(folder)

    return run


@pytest.fixture(scope="session")
def plain(estimated) -> Run:
    return estimated("--permutations", 99)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory) -> Path:
    """200 images in MNIST's files: a bright quarter says which of four classes; the last 50 lie."""
    rng = np.random.default_rng(0)
    labels = (np.arange(200) % 4).astype(np.uint8)
    images = rng.integers(0, 100, (200, 28, 28), np.uint8)
    for image, k in zip(images, labels, strict=True):
        image[14 * (k // 2) :, 14 * (k % 2) :][:14, :14] += 150
    labels[150:] = rng.permutation(labels[150:])
    return write_mnist(tmp_path_factory.mktemp("images"), (images, labels), (images, labels))
