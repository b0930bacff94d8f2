"""Hashes of the data of a run, so that --resume can refuse changed data.

config.json holds them, and they are part of the names of cached features.
"""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

MAX_WHOLE_BYTES = 1 << 16  # bytes; larger files are sampled
BLOCKS, BLOCK_BYTES = 16, 1 << 12


def fingerprint(images: Tensor | list[Path], labels: Tensor) -> str:
    """The number of images and a hash of them and their labels, as "16500 images, 3f2a...".

    Image files count by their place below the folder that they share, their size and their
    content: all of it up to 64 KiB, of a larger file sixteen evenly spread blocks of 4 KiB.
    """
    digest = hashlib.sha256(_bytes(labels))
    digest.update(_bytes(images) if isinstance(images, Tensor) else files_digest(images))
    return f"{len(labels)} images, {digest.hexdigest()[:16]}"


def files_digest(paths: list[Path]) -> bytes:
    """sha256 of the relative paths, the sizes and the (sampled) content of files."""
    digest = hashlib.sha256()
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    for path in paths:
        digest.update(os.path.relpath(path, root).encode() + b"\0")
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{size}\n".encode())
            if size <= MAX_WHOLE_BYTES:
                digest.update(file.read())
            for number in range(BLOCKS) if size > MAX_WHOLE_BYTES else ():
                file.seek((size - BLOCK_BYTES) * number // (BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return digest.digest()


def file_fingerprint(path: Path) -> str:
    """A hash of the whole content of one file, such as weights."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _bytes(values: Tensor) -> bytes:
    """Type, shape and content."""
    values = values.contiguous().cpu()
    content = values.view(torch.uint8) if values.ndim else values
    return f"{values.dtype} {tuple(values.shape)}".encode() + content.numpy().tobytes()
