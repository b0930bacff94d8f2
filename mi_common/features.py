"""Outputs of a frozen network, computed once and kept as memory-mapped files.

A file is a NumPy array with a checksum of each block of rows behind it. All are verified whenever
the file is opened.
"""

import errno
import hashlib
import io
import itertools
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm import tqdm

from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError, require_disk
from mi_common.files import release, write_atomically
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.pictures import READER_VERSION
from mi_common.runtime import Runtime

BLOCK_BYTES = 1 << 24  # bytes of the array that share a checksum


@torch.no_grad()
def cached_features(
    network: GlobalAveragePoolClassifier,
    images: ImageSet,
    cache_dir: Path,
    *,
    kind: str,
    runtime: Runtime,
    augmentation: int | None = None,
    batch_size: int = 16,  # as quick as 64, with less memory
    num_workers: int = 2,
) -> np.ndarray:
    """Feature maps of image files in eval mode, from the cache where they are already there.

    The file is keyed by the images, the backbone's weights, the size and the precision, so a change
    of any makes a new file; it appears only when it is complete. The result is a memory-mapped
    float16 array; what is written to it does not reach the file.

    Args:
        kind: "pooled" for (N, C), the mean over positions, or "maps" for (N, C, H, W).
        augmentation: number of a pass over random parts of the images; None takes whole images.

    UserError for an unreadable image, a damaged file of features, or too little space on the disk.
    """
    spec, size = network.spec, network.spec.size
    key = hashlib.sha256(f"{READER_VERSION} {kind} {size} {spec} {runtime.precision}".encode())
    key.update(f"{network.output_stride or 32} {augmentation}{images.fingerprint}".encode())
    hash_weights(key, network.backbone)
    target = cache_dir / f"{images.name}-{kind}-{size}-{key.hexdigest()[:16]}.npy"

    # In every process: all must have the same memory layout, which DistributedDataParallel checks.
    backbone = network.backbone.to(runtime.device, memory_format=torch.channels_last).eval()
    transform = spec.transform() if augmentation is None else spec.random_transform()
    files = ImageFileDataset(images.images, transform, seed=augmentation)
    loader = torch.utils.data.DataLoader(files, batch_size=batch_size, num_workers=num_workers)

    def feature_batches() -> Iterator[np.ndarray]:
        compute_maps = torch.compile(backbone) if runtime.compile else backbone
        for batch in tqdm(loader, desc=f"features of {images.name}", disable=None):
            batch = batch.to(runtime.device, memory_format=torch.channels_last)
            with runtime.autocast():
                maps = compute_maps(batch).float()
            values = maps if kind == "maps" else maps.mean(dim=(2, 3))
            yield values.cpu().numpy().astype(np.float16)

    def compute() -> None:
        if target.exists():
            return
        cache_dir.mkdir(parents=True, exist_ok=True)
        # Another run may compute the same features.
        lock = FileLock(cache_dir / f".{target.stem}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process that computes {target}", flush=True)
            lock.acquire()
        try:
            if not target.exists():
                count, batches = len(images), feature_batches()
                write_atomically(target, lambda path: write_rows(path, count, batches))
        finally:
            release(lock)

    runtime.on_main(compute)
    return read_rows(target)


def hash_weights(digest, module: nn.Module) -> None:
    """Adds names and values of all weights and statistics of a module to a hashlib digest."""
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())


def write_rows(path: Path, count: int, batches: Iterator[np.ndarray]) -> None:
    """Writes an `.npy` file from batches of rows, then the checksums.

    These are little-endian uint32 CRCs: of the header, and of each `BLOCK_BYTES` of the array.
    UserError if the disk has too little space, which is reserved after the first batch.
    """
    first = next(batches)
    shape = (count, *first.shape[1:])
    data_bytes = math.prod(shape) * first.itemsize
    buffer = io.BytesIO()
    description = {"descr": first.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    header = buffer.getvalue()
    with path.open("wb") as file:
        checksum_bytes = 4 * (1 + math.ceil(data_bytes / BLOCK_BYTES))
        _reserve(file.fileno(), len(header) + data_bytes + checksum_bytes, path)
        file.write(header)
        checksums, checksum, filled = [zlib.crc32(header)], 0, 0
        for rows in itertools.chain([first], batches):
            content = memoryview(rows.tobytes())
            while content:
                part, content = content[: BLOCK_BYTES - filled], content[BLOCK_BYTES - filled :]
                file.write(part)
                checksum, filled = zlib.crc32(part, checksum), filled + len(part)
                if filled == BLOCK_BYTES:
                    checksums.append(checksum)
                    checksum = filled = 0
        file.write(np.array(checksums + [checksum] * (filled > 0), "<u4").tobytes())


def _reserve(descriptor: int, size: int, path: Path) -> None:
    require_disk(size, path.parent, "cached features")
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # others are of file systems that cannot reserve
            raise


def read_rows(path: Path) -> np.ndarray:
    """The memory-mapped array in a file of `write_rows`; UserError for a wrong checksum."""
    damaged = UserError(f"{path}: damaged; delete it, and its features are computed again")
    with path.open("rb") as file:
        try:
            array = np.lib.format.open_memmap(path, mode="c")  # PyTorch wants it writable
        except Exception as error:  # NumPy's reader of headers raises many kinds
            raise damaged from error
        starts = range(0, array.nbytes, BLOCK_BYTES)
        lengths = [array.offset, *(min(BLOCK_BYTES, array.nbytes - start) for start in starts)]
        if path.stat().st_size != sum(lengths) + 4 * len(lengths):
            raise damaged
        checksums = [zlib.crc32(file.read(length)) for length in lengths]
        if checksums != np.frombuffer(file.read(), "<u4").tolist():
            raise damaged
    return array
