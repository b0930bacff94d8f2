"""Hostile archives are refused in one line, before anything is written where headers tell."""

import bz2
import gzip
import io
import lzma
import re
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

import pytest

from mi_common.errors import UserError
from scripts import archives
from scripts.archives import unpack

LIMIT = 1_000_000


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar file of headers with as many zero bytes as they claim, up to a megabyte."""
    headers = [
        member.tobuf(form) + bytes(-(-member.size // 512) * 512 if member.size <= LIMIT else 0)
        for member in members
    ]
    return b"".join(headers) + bytes(1024)


def member(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, pax: dict | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, pax or {}
    return info


def zip_of(files: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of duplicate names
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tampered(archive: bytes, offset: int, form: str, value: int, entry: int = -1) -> bytes:
    """Another number in the central directory of a zip."""
    start = [match.start() for match in re.finditer(b"PK\x01\x02", archive)][entry] + offset
    return archive[:start] + struct.pack(form, value) + archive[start + struct.calcsize(form) :]


CRC, SIZE, COMMENT, ATTRIBUTES = 16, 24, 32, 38  # offsets in an entry


def refused(tmp_path: Path, data: bytes) -> str:
    """Why `unpack` refuses an archive, without its path."""
    path = tmp_path / "archive"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        unpack(path, tmp_path / "folder", LIMIT)
    assert path.read_bytes() == data
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def negative(size: int) -> bytes:
    """A tar member of a negative size."""
    block = bytearray(member("a").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (256**12 + size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block) + bytes(1024)


LONG = "x" * 256
BEFORE_WRITING = {
    "claims a petabyte": (tar_of(member("a", 10**15)), "unpacks to more than the limit of 1.0 MB"),
    "claims a petabyte in words": (
        tar_of(member("a", pax={"size": "1" + "0" * 15}), form=tarfile.PAX_FORMAT),
        "unpacks to more than the limit of 1.0 MB",
    ),
    "claims a bit too much": (
        tar_of(member("a", LIMIT), member("b", 1)),
        "unpacks to more than the limit of 1.0 MB",
    ),
    "zip bomb": (
        zip_of({"a": bytes(LIMIT), "b": b"1"}, compression=zipfile.ZIP_DEFLATED),
        "unpacks to more than the limit of 1.0 MB",
    ),
    "zip claims too much": (
        tampered(zip_of({"a": b"1"}), SIZE, "<I", 2**32 - 2),
        "unpacks to more than the limit of 1.0 MB",
    ),
    "negative size": (negative(-512), "member 'a' claims -512 bytes"),
    "sparse": (
        tar_of(member("a", 0, tarfile.GNUTYPE_SPARSE)),
        "member 'a' is a link, a device, sparse or outside the folder",
    ),
    "sparse in words": (
        tar_of(
            member("a", pax={"GNU.sparse.map": "0,5", "GNU.sparse.size": "99"}),
            form=tarfile.PAX_FORMAT,
        ),
        "member 'a' is a link, a device, sparse or outside the folder",
    ),
    "file without a name": (
        tar_of(member(".")),
        "member '.' is a link, a device, sparse or outside the folder",
    ),
    "zip device": (
        tampered(zip_of({"a": b""}), ATTRIBUTES, "<I", 0o020666 << 16),
        "member 'a' is a link, a device, sparse or outside the folder",
    ),
    "line break": (tar_of(member("a\nb")), r"member 'a\nb' has a name that is no plain UTF-8 text"),
    "not UTF-8": (
        tar_of(member("a\udcff")),
        r"member 'a\udcff' has a name that is no plain UTF-8 text",
    ),
    "text from right to left": (
        tar_of(member("a\u202eb")),
        r"member 'a\u202eb' has a name that is no plain UTF-8 text",
    ),
    "NUL": (
        zip_of({"aXb": b""}).replace(b"aXb", b"a\0b"),
        r"member 'a\x00b' has a name that is no plain UTF-8 text",
    ),
    "long name": (
        tar_of(member(LONG)),
        f"member '{LONG[1:]}' has a name of more than 255 or a path of more than 1000 bytes",
    ),
    "long path": (
        zip_of({"/".join(["y" * 125] * 8): b""}),
        f"member '{('/'.join(['y' * 125] * 8))[:255]}' "
        "has a name of more than 255 or a path of more than 1000 bytes",
    ),
    "deep": (
        tar_of(member("d/" * 20 + "a")),
        f"member '{'d/' * 20}a' lies more than 20 folders deep",
    ),
    "twice": (tar_of(member("a", 3), member("a", 3)), "member 'a' is there twice"),
    "twice but for case": (zip_of({"x/a": b"1", "X/A": b"2"}), "member 'X/A' is there twice"),
    "twice with a dot": (zip_of({"x/a": b"1", "x/./a": b"2"}), "member 'x/./a' is there twice"),
    "file and folder": (
        tar_of(member("a"), member("a", 0, tarfile.DIRTYPE)),
        "member 'a' is there twice",
    ),
    "file in a file": (zip_of({"a/b": b"1", "a": b"2"}), "member 'a' is a file and a folder"),
    "no files": (zip_of({"a/": b""}), "holds no files"),
    "nothing": (bytes(10240), "holds no files"),
}


@pytest.mark.parametrize("kind", BEFORE_WRITING)
def test_what_headers_tell_is_found_before_anything_is_written(tmp_path, kind):
    data, reason = BEFORE_WRITING[kind]
    assert refused(tmp_path, data) == reason
    assert not (tmp_path / "folder").exists()


WHOLE_TAR = tar_of(member("a", 600), member("b", 600), member("c", 600))
GZ = gzip.compress(WHOLE_TAR)
DAMAGED = {
    "second header": (
        WHOLE_TAR.replace(b"b", b"x", 1),
        "EOFError: it does not end with an empty block",
    ),
    "cut between two members": (
        WHOLE_TAR[: 3 * 512],
        "EOFError: it does not end with an empty block",
    ),
    "other checksum of the gzip file": (
        GZ[:-8] + bytes(4) + GZ[-4:],
        f"BadGzipFile: CRC check failed 0x0 != {zlib.crc32(WHOLE_TAR):#x}",
    ),
    "name that takes all memory": (
        gzip.compress(tar_of(member("a", 10**12, tarfile.GNUTYPE_LONGNAME))),
        "ValueError: a header of 1,000,000,000,000 bytes",
    ),
    "headers without end": (
        tar_of(*[member("a", 0, tarfile.XHDTYPE)] * 100),
        "ValueError: a header of 512 bytes",
    ),
    "bomb behind its end": (
        gzip.compress(WHOLE_TAR + bytes(2_000_000)),
        "ValueError: something follows its end",
    ),
    "zip entry that hides the next": (
        tampered(zip_of({"a": b"1", "b": b"2"}), COMMENT, "<H", 256, entry=0),
        "EOFError: 1 members where its end claims 2",
    ),
    "something behind a zip": (
        zip_of({"a": b"1"}) + b"2",
        "ValueError: something follows its end",
    ),
    "name of zip not UTF-8": (
        zip_of({"\u00e9": b""}).replace(b"\xc3\xa9", b"\xc3\x28"),
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xc3 in position 0: "
        "invalid continuation byte",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_that_headers_show_is_found_before_anything_is_written(tmp_path, kind):
    data, reason = DAMAGED[kind]
    assert (
        refused(tmp_path, data) == f"no whole .zip, .tar or .tgz archive ({reason}); get it again"
    )
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tar_files_are_unpacked_with_their_empty_folders(tmp_path, compress):
    data = tar_of(member("./", 0, tarfile.DIRTYPE), member("d/e", 0, tarfile.DIRTYPE), member("f"))
    (tmp_path / "archive").write_bytes(compress(data))
    unpack(tmp_path / "archive", tmp_path / "folder", LIMIT)
    paths = (tmp_path / "folder").rglob("*")
    assert sorted((path.name, path.is_dir()) for path in paths) == [
        ("d", True),
        ("e", True),
        ("f", False),
    ]


def test_a_member_is_never_longer_than_its_header_claims(tmp_path):
    """A bomb of 500 KB that claims 10 bytes, with their checksum and with its own."""
    bomb = zip_of({"a": bytes(500_000)}, compression=zipfile.ZIP_DEFLATED)
    shorter = tampered(bomb, SIZE, "<I", 10)
    assert refused(tmp_path, shorter).endswith(
        "(BadZipFile: Bad CRC-32 for file 'a'); get it again"
    )
    assert (tmp_path / "folder/a").stat().st_size == 0
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "archive").write_bytes(tampered(shorter, CRC, "<I", zlib.crc32(bytes(10))))
    unpack(tmp_path / "archive", tmp_path / "folder", LIMIT)
    assert (tmp_path / "folder/a").read_bytes() == bytes(10)


def test_a_member_that_goes_on_is_stopped(tmp_path, monkeypatch):
    """Whatever a reader gives: no more than the claim is written."""
    data = zip_of({"a": bytes(40_000)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, member: io.BytesIO(bytes(50_000)))
    reason = refused(tmp_path, data)
    assert reason.endswith("(ValueError: member 'a': more than 40,000 bytes); get it again")
    assert (tmp_path / "folder/a").stat().st_size == 0


def test_a_member_that_is_shorter_than_its_header_claims_is_damage(tmp_path):
    reason = refused(tmp_path, tampered(zip_of({"a": b"12345"}), SIZE, "<I", 6))
    assert reason.endswith("(EOFError: member 'a' has less bytes than it claims); get it again")


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    four = zip_of({name: b"" for name in "abcd"})
    assert refused(tmp_path, four) == "more than 3 members"
    three = tmp_path / "three"
    three.write_bytes(zip_of({name: b"" for name in "abc"}))
    unpack(three, tmp_path / "folder", LIMIT)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "b", "c"]


def test_an_archive_that_the_disk_does_not_hold_is_refused(tmp_path, monkeypatch):
    """Each file is thought to fill its last block of 4,096 bytes."""
    usage = namedtuple("usage", "free")
    data = zip_of({"a": bytes(900_000), "b": bytes(1)})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(900_000 + 1 + 8191))
    needs = f"needs 0.9 MB, 0.9 MB are free in {tmp_path}; free some space"
    assert refused(tmp_path, data) == needs
    assert not (tmp_path / "folder").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(900_000 + 1 + 8192))
    unpack(tmp_path / "archive", tmp_path / "folder", LIMIT)
    assert (tmp_path / "folder/a").read_bytes() == bytes(900_000)
