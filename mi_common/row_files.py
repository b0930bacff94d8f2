"""Memory-mapped files of rows: a NumPy array, and behind it a checksum of each block of it.

All checksums are verified whenever a file is opened.
"""

import errno
import io
import itertools
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mi_common.errors import UserError, require_disk

BLOCK_BYTES = 1 << 24  # bytes of the array that share a checksum


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
            array = np.lib.format.open_memmap(path, mode="c")  # PyTorch warns of read-only arrays
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
