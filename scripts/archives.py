"""Unpacks an archive that may be damaged or hostile: all of its files, or an error.

Nothing is written outside the folder or over another file. No member becomes longer than its header
claims, and all members together must stay below a limit and fit on the disk. `tarfile`'s filters
and `shutil.unpack_archive` have no such limits, and accept damaged archives; hence this module.
"""

import bz2
import gzip
import lzma
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from tqdm import tqdm

from mi_common.errors import UserError, require_disk

MAX_MEMBERS = 300_000  # Tiny-ImageNet has 120,000
MAX_DEPTH = 20  # folders in folders
MAX_PATH_BYTES, MAX_NAME_BYTES = 1000, 255  # bytes of a path, and of one name in it
TAR_HEADER_BYTES = 1 << 13  # a member's header with its long names
TAR_TAIL_BYTES = 1 << 20  # padding behind the last member
ZIP_DIRECTORY_BYTES = 1 << 26
DISK_BLOCK = 4096  # a small file takes as much of the disk
CHUNK = 1 << 20

COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


@dataclass(frozen=True)
class Member:
    """One file or folder, as the header of an archive describes it."""

    name: str
    size: int  # bytes, unpacked
    is_folder: bool
    is_plain: bool  # a file or folder, no link or device
    open: Callable[[], BinaryIO]


class _LimitedReader:
    """A file that gives at most `left` bytes, so that no header can take all memory or time."""

    def __init__(self, file: BinaryIO, left: int):
        self.file, self.left, self.last_read = file, left, b""
        self.tell, self.seekable = file.tell, file.seekable

    def seek(self, position: int, whence: int = 0) -> int:
        if position < 0 and whence == 0:
            raise ValueError("a header that points before the start")
        return self.file.seek(position, whence)

    def read(self, size: int = -1) -> bytes:
        if size > self.left:
            raise ValueError(f"a header of {size:,} bytes")
        self.last_read = self.file.read(self.left if size < 0 else size)
        self.left -= len(self.last_read)
        return self.last_read


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Extracts a zip or tar archive into a new folder whose parent exists.

    UserError if the file is damaged or no archive; it unpacks to more than `max_bytes`, more than
    the disk holds, or more than `MAX_MEMBERS` members; a member is a link, a device, sparse or
    outside the folder; two members have one path; a name is too long or no plain text. Everything
    but damage is found before anything is written. OSError if the disk fails; like damage, it
    leaves an unfinished folder.
    """
    try:
        with archive.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if start == b"PK":
                members = _zip_members(file)
            else:
                members = _tar_members(COMPRESSED.get(start, lambda file: file)(file))
            checked = check_members(archive, members, max_bytes)
            needed = sum(member.size + DISK_BLOCK for member in checked.values())
            require_disk(needed, folder.parent, str(archive))
            progress = partial(tqdm, desc=f"unpack {archive.name}", unit=" files", disable=None)
            for path, member in progress(checked.items()):
                _extract(member, folder.joinpath(*path.parts))
    except Exception as error:  # damage makes the readers raise many kinds
        disk_failed = isinstance(error, OSError) and error.errno is not None
        if disk_failed or isinstance(error, UserError):
            raise
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{archive}: no whole zip or tar file ({reason}); get it again") from error


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    bounded = _LimitedReader(file, ZIP_DIRECTORY_BYTES)
    archive = zipfile.ZipFile(bounded)
    bounded.left = sys.maxsize
    members = archive.infolist()
    file.seek(-22 - len(archive.comment), 2)  # of the record at the end, which counts them
    signature, count = struct.unpack("<4s6xH10x", file.read(22))
    if signature != b"PK\5\6":
        raise ValueError("something follows its end")
    # zipfile stops at a damaged entry. The field has 16 bits: some writers fill it, some overflow.
    if count not in (min(len(members), 0xFFFF), len(members) & 0xFFFF):
        raise EOFError(f"{len(members)} members where its end claims {count}")
    for member in members:
        name = member.orig_filename  # `filename` is cut at a NUL
        is_plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
        is_folder = name.endswith(("/", "\\"))
        yield Member(name, member.file_size, is_folder, is_plain, partial(archive.open, member))


def _tar_members(file: BinaryIO) -> Iterator[Member]:
    """Reads to the end, so that the checksum of a compressed archive is compared."""
    bounded = _LimitedReader(file, TAR_HEADER_BYTES)
    archive = tarfile.TarFile(fileobj=bounded, encoding="utf-8")
    while member := archive.next():
        is_plain = member.isdir() or (member.isfile() and not member.issparse())
        size = 0 if member.isdir() else member.size
        open_member = partial(archive.extractfile, member)
        yield Member(member.name, size, member.isdir(), is_plain, open_member)
        bounded.left = TAR_HEADER_BYTES
    if bounded.last_read != bytes(tarfile.BLOCKSIZE):  # tarfile also stops at a damaged header
        raise EOFError("it does not end with an empty block")
    bounded.left = TAR_TAIL_BYTES
    if len(bounded.read()) == TAR_TAIL_BYTES:
        raise ValueError("something follows its end")
    bounded.left = sys.maxsize


def check_members(
    archive: Path, members: Iterator[Member], max_bytes: int
) -> dict[PureWindowsPath, Member]:
    """The members by path; the UserError of `unpack` at the first fault.

    Two paths that differ only in case count as one.
    """
    checked: dict[PureWindowsPath, Member] = {}
    parents: set[PureWindowsPath] = set()
    total = 0
    for member in members:
        path = PureWindowsPath(member.name)  # knows both separators, drives, and ignores case
        fault = _fault(member, path)
        if path in checked and not (member.is_folder and checked[path].is_folder):
            fault = fault or "is there twice"
        if fault:
            raise UserError(f"{archive}: member {member.name[:MAX_NAME_BYTES]!r} {fault}")
        checked[path] = member
        parents.update(path.parents)
        total += member.size
        if total > max_bytes:
            limit = f"{max_bytes / 1e6:,.1f} MB"
            raise UserError(f"{archive}: unpacks to more than the limit of {limit}")
        if len(checked) > MAX_MEMBERS:
            raise UserError(f"{archive}: more than {MAX_MEMBERS:,} members")
    for path in parents & checked.keys():
        if not checked[path].is_folder:
            raise UserError(f"{archive}: member {checked[path].name!r} is a file and a folder")
    if all(member.is_folder for member in checked.values()):
        raise UserError(f"{archive}: holds no files")
    return checked


def _fault(member: Member, path: PureWindowsPath) -> str | None:
    """Why a member must not be unpacked, or None."""
    inside = not path.anchor and ".." not in path.parts and (path.parts or member.is_folder)
    if not (member.is_plain and inside):
        return "is a link, a device, sparse or outside the folder"
    if not member.name.isprintable():
        return "has a name that is no plain UTF-8 text"
    longest = max((len(part.encode()) for part in path.parts), default=0)
    if longest > MAX_NAME_BYTES or len(member.name.encode()) > MAX_PATH_BYTES:
        limits = f"a name of more than {MAX_NAME_BYTES} or a path of more than {MAX_PATH_BYTES}"
        return f"has {limits} bytes"
    if len(path.parts) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep"
    return f"claims {member.size} bytes" if member.size < 0 else None


def _extract(member: Member, path: Path) -> None:
    if member.is_folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as target:
        copy_at_most(member.size, source, target, f"member {member.name!r}")
        if target.tell() != member.size:
            raise EOFError(f"member {member.name!r} has fewer bytes than it claims")


def copy_at_most(size: int, source: BinaryIO, target: BinaryIO, what: str) -> None:
    """Copies a stream to its end; ValueError when it has more than `size` bytes."""
    left = size
    while chunk := source.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"{what}: more than {size:,} bytes")
        target.write(chunk)
