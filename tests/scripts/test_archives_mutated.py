"""Flipped and cut archives, and random bytes: exactly the original files or one line, never more.

A plain tar file has checksums of its headers alone: there, names and sizes are compared.
"""

import gzip
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mi_common.errors import UserError
from scripts.archives import unpack

FILES = {
    "MNIST/a.bin": bytes(range(256)) * 3,
    "MNIST/raw/b.txt": b"one line\n" * 40,
    "c": b"",
    "d/e/f": bytes(700),
}


def make_zip(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in FILES.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return buffer.getvalue()


def make_tar(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVES = {
    "stored.zip": make_zip(zipfile.ZIP_STORED),
    "deflated.zip": make_zip(zipfile.ZIP_DEFLATED),
    "lzma.zip": make_zip(zipfile.ZIP_LZMA),
    "gnu.tgz": gzip.compress(make_tar(tarfile.GNU_FORMAT), mtime=0),
    "pax.tgz": gzip.compress(make_tar(tarfile.PAX_FORMAT), mtime=0),
    "gnu.tar": make_tar(tarfile.GNU_FORMAT),
}


def files_of(data: bytes) -> dict[str, bytes] | None:
    """What `unpack` makes of an archive, and that it makes it in its folder; None if refused."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        archive, folder = root / "archive", root / "in/folder"
        folder.parent.mkdir()
        archive.write_bytes(data)
        try:
            unpack(archive, folder, 10**6)
            refused = False
        except UserError as error:
            assert str(error).startswith(f"{archive}: ") and str(error).count("\n") == 0
            refused = True
        outside = [path for path in root.rglob("*") if folder not in (path, *path.parents)]
        assert sorted(outside) == [archive, folder.parent] and archive.read_bytes() == data
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return None if refused else files


@pytest.mark.parametrize("kind", ARCHIVES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_mutated_archive_gives_its_own_files_or_is_refused(kind, data):
    whole = ARCHIVES[kind]
    places = st.integers(0, len(whole) - 1)
    changed = bytearray(whole)
    for place, bits in data.draw(st.lists(st.tuples(places, st.integers(1, 255)), max_size=3)):
        changed[place] ^= bits
    cut = data.draw(st.none() | places)
    files = files_of(bytes(changed[:cut]))
    if bytes(changed[:cut]) == whole:
        assert files == FILES
    elif files is not None:
        if kind == "gnu.tar":
            sizes = {name: len(content) for name, content in FILES.items()}
            assert {name: len(content) for name, content in files.items()} == sizes
        else:
            assert files == FILES


@settings(max_examples=60)
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08\0", b"BZh9", b"\xfd7zXZ\0"]),
    st.binary(max_size=700),
)
def test_random_bytes_are_refused(start, rest):
    assert files_of(start + rest) is None
