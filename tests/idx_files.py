"""MNIST's files as tests write them."""

import struct
from pathlib import Path

import numpy as np


def write_idx(path: Path, values: np.ndarray) -> None:
    """The IDX format: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + values.astype(np.uint8, copy=False).tobytes())


def write_mnist(root: Path, train: tuple, test: tuple, *, base: str = "MNIST") -> Path:
    """Writes (images, labels) of both splits below a data folder, and returns that folder."""
    for stem, (images, labels) in (("train", train), ("t10k", test)):
        write_idx(root / base / f"raw/{stem}-images-idx3-ubyte", images)
        write_idx(root / base / f"raw/{stem}-labels-idx1-ubyte", labels)
    return root
