"""Writes files completely or not at all, and verifies them when they are read.

A file is synced to the disk before it gets its name, so that a crash or a power cut leaves the old
file or the new one. Binary files are zip archives with a checksum of their whole content.
"""

import contextlib
import glob
import io
import json
import os
import socket
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from mi_common.errors import UserError, require_memory

if TYPE_CHECKING:  # NumPy is slow to import: the functions that need it import it themselves
    import numpy as np

LOCK = ".lock"
WRITTEN = ".written"  # a JSON text a line: paths of the files that were written below this folder
MAKE_AGAIN = "make it again with its command"
_REMEDIES = {  # of files that training scripts alone write
    "checkpoint.pt": "delete it and train again with --resume",
    "predictions.npz": "train again with --overwrite",
}
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # in the names of unfinished files
_COMMENT_LENGTH = b"\4\0"  # of `write_archive`: the last bytes of a zip archive before its comment
_CRC_OF_DATA_AND_ITS_CRC = 0x2144DF1C  # CRC-32 of any bytes that their CRC-32 follows
_locks: dict[Path, FileLock] = {}  # by folder
_before_first_write: dict[Path, Callable[[], object]] = {}  # by locked folder


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a temporary neighbour of `path`, syncs it and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial*"):
        remove_if_stale(left)
    partial = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        _sync(partial)
        for folder in [*_before_first_write]:
            if folder in path.resolve().parents and (call := take_call(folder)):
                call()
        _list_as_written(path)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def call_before_first_write(folder: Path, call: Callable[[], object]) -> None:
    """Calls once, before the next file below a folder that this process has locked is written."""
    _before_first_write[folder.resolve()] = call


def take_call(folder: Path) -> Callable[[], object] | None:
    """Takes back what `call_before_first_write` was given; None if it was called."""
    return _before_first_write.pop(folder.resolve(), None)


def _list_as_written(path: Path) -> None:
    """Adds a new file to `WRITTEN` of the locked folder that contains it."""
    place = path.parent.resolve() / path.name
    folder = next((folder for folder in place.parents if folder in _locks), None)
    if folder is not None and not os.path.lexists(path):
        with (folder / WRITTEN).open("a", encoding="ascii") as file:
            # The line break comes first: after half a line, which a full disk leaves.
            file.write("\n" + json.dumps(place.relative_to(folder).as_posix()))


def written_files(folder: Path) -> set[Path]:
    """The files below a folder that were written while it, or a folder inside it, was locked."""
    files = set()
    for written in folder.rglob(WRITTEN):
        for line in written.read_text(encoding="ascii", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):  # an empty line or half a one
                files.add(written.parent / json.loads(line))
    return files


def remove_if_stale(partial: Path) -> None:
    """Deletes a `.partial` file of this process, or of one on this machine that has ended."""
    host, _, process = partial.name.partition(".partial")[0].rpartition(".")[2].partition("-")
    if host != _HOST or not process.isdecimal():
        return
    if int(process) == os.getpid() or not psutil.pid_exists(int(process)):
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and needs no sync of it
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: dict) -> None:
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path, *, remedy: str = MAKE_AGAIN) -> dict:
    """The object in a JSON file; UserError if it is missing, unreadable, or something else.

    `remedy` ends the error of a damaged file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, it is not JSON; {remedy}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, it holds no JSON object; {remedy}")
    return value


def save_arrays(path: Path, **arrays: "np.ndarray") -> None:
    """Compressed `.npz`, written atomically; no object arrays."""
    import numpy as np

    # Into memory first: a zip file on a full disk reports the failure a second time when it closes.
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_archive(path, buffer)


def write_archive(path: Path, archive: io.BytesIO) -> None:
    """Writes a zip archive atomically. Its comment is the CRC-32 of everything before it.

    The checksums of its entries do not cover their names, places and attributes, where one flipped
    bit made torch read zeros for a tensor.
    """
    archive.seek(-2, io.SEEK_END)
    archive.write(_COMMENT_LENGTH)
    with archive.getbuffer() as content:
        checksum = zlib.crc32(content)
    archive.write(checksum.to_bytes(4, "little"))
    write_atomically(path, lambda partial: partial.write_bytes(archive.getbuffer()))


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """The arrays of an `.npz` file, after its checksums were verified.

    UserError if the file is missing, damaged, or holds Python objects.
    """
    import numpy as np

    verify_archive(path)
    with zipfile.ZipFile(path) as archive:
        require_memory(sum(entry.file_size for entry in archive.infolist()), str(path), "free some")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except OSError:
        raise
    except Exception as error:  # a garbled header makes NumPy raise many kinds
        if str(error).startswith("Object arrays"):
            remedy = "write it again without, or train again with --overwrite"
            raise UserError(f"{path}: holds Python objects; {remedy}") from error
        raise damaged_file(path) from error
    if not all(isinstance(values, np.ndarray) for values in arrays.values()):
        raise damaged_file(path)
    return arrays


def verify_archive(path: Path) -> None:
    """UserError for a missing zip archive, as `.npz` and `.pt` files are, or a wrong checksum.

    Archives of `write_archive` have a checksum of the whole file, others of their entries only.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 26))
        end = file.read()
        if end[:4] == b"PK\5\6" and end[20:22] == _COMMENT_LENGTH:
            file.seek(0)
            checksum = 0
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
            if checksum != _CRC_OF_DATA_AND_ITS_CRC:
                raise damaged_file(path)
            return
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("a wrong checksum")
    except Exception as error:  # a flipped bit makes zipfile raise many kinds, OSError too
        raise damaged_file(path) from error


def damaged_file(path: Path, *, remedy: str | None = None) -> UserError:
    """An error to raise. By default, its remedy is that of `path.name`."""
    remedy = remedy or _REMEDIES.get(path.name, MAKE_AGAIN)
    return UserError(f"{path}: damaged, its content is not what was written; {remedy}")


def lock(folder: Path) -> None:
    """Locks a folder until `release_locks` or this process's end; UserError if another has it."""
    key = folder.resolve()
    if key in _locks:
        return
    held = FileLock(key / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder}: another run writes there; wait or choose another") from error
    _locks[key] = held


def is_locked(folder: Path) -> bool:
    """Whether this process has locked the folder."""
    return folder.resolve() in _locks


def release_locks(folder: Path | None = None) -> None:
    """Unlocks one folder, or all, and removes the unfinished files in it."""
    for key in [folder.resolve()] if folder else list(_locks):
        take_call(key)
        if held := _locks.pop(key, None):
            with contextlib.suppress(OSError):  # the other folders must be unlocked all the same
                remove_partial_files(key)
            release(held)


def release(lock: FileLock) -> None:
    """Releases a lock and removes its file; a waiting process notices and locks a new file."""
    with contextlib.suppress(OSError):  # Windows deletes no open file
        Path(lock.lock_file).unlink()
    lock.release()


def remove_partial_files(folder: Path) -> None:
    """Deletes unfinished files of killed processes in a folder that this process has locked.

    It skips run folders inside it that this or another process has locked.
    """
    for path in folder.iterdir():
        if path.match(".*.partial*") and path.is_file():
            remove_if_stale(path)
        elif path.is_dir() and not path.is_symlink() and path.resolve() not in _locks:
            if not (path / LOCK).exists():
                remove_partial_files(path)
                continue
            with contextlib.suppress(UserError):
                lock(path)
                release_locks(path)
