"""Hostile archives are refused in one line, before anything is written where headers tell."""

import bz2
import gzip
import io
import lzma
import re
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path
from tarfile import TarInfo

import pytest

from mi_common.errors import UserError
from scripts import archives
from scripts.archives import unpack

LIMIT = 1_000_000


def tar_of(*members: TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar file of headers with as many zero bytes as they claim, up to a megabyte."""
    headers = [
        member.tobuf(form) + bytes(-(-member.size // 512) * 512 if member.size <= LIMIT else 0)
        for member in members
    ]
    return b"".join(headers) + bytes(1024)


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, pax=(), link="") -> TarInfo:
    info = TarInfo(name)
    info.size, info.type, info.pax_headers, info.linkname = size, kind, dict(pax), link
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


def pax(name: str, **headers: str) -> bytes:
    return tar_of(member(name, pax=headers), form=tarfile.PAX_FORMAT)


def attributes(mode: int) -> bytes:
    """A zip member of this Unix mode."""
    return tampered(zip_of({"a": b"../.."}), ATTRIBUTES, "<I", mode << 16)


LONG, PATH = "x" * 256, "/".join(["y" * 125] * 8)
WHOLE_TAR = tar_of(member("a", 600), member("b", 600), member("c", 600))
GZ = gzip.compress(WHOLE_TAR)
FOUND_IN_HEADERS = {
    "unpacks to more than the limit of 1.0 MB": {
        "petabyte": tar_of(member("a", 10**15)),
        "petabyte in words": pax("a", size="1" + "0" * 15),
        "a byte too much": tar_of(member("a", LIMIT), member("b", 1)),
        "zip bomb": zip_of({"a": bytes(LIMIT), "b": b"1"}, compression=zipfile.ZIP_DEFLATED),
        "zip claims too much": tampered(zip_of({"a": b"1"}), SIZE, "<I", 2**32 - 2),
    },
    "is a link, a device, sparse or outside the folder": {
        "sparse": tar_of(member("a", 0, tarfile.GNUTYPE_SPARSE)),
        "sparse in words": pax("a", **{"GNU.sparse.map": "0,5", "GNU.sparse.size": "99"}),
        "file without a name": tar_of(member(".")),
        "zip device": attributes(stat.S_IFCHR | 0o666),
        "zip symlink": attributes(stat.S_IFLNK | 0o777),
        "tar symlink": tar_of(member("a", 0, tarfile.SYMTYPE, link="../../..")),
        "tar hard link": tar_of(member("a", 0, tarfile.LNKTYPE, link="../../../outside")),
        "tar device": tar_of(member("a", 0, tarfile.CHRTYPE)),
        "tar pipe": tar_of(member("a", 0, tarfile.FIFOTYPE)),
        "folder outside": tar_of(member("../evil", 0, tarfile.DIRTYPE)),
        "zip drive": zip_of({"C:/evil": b"1"}),
        **{
            f"{kind} {name}": pack(name)
            for name in ("a/../../evil", "/nowhere/evil", "..\\evil")
            for kind, pack in (
                ("tar", lambda name: tar_of(member(name))),
                ("zip", lambda name: zip_of({name: b"1"})),
            )
        },
    },
    "has a name that is no plain UTF-8 text": {
        "line break": tar_of(member("a\nb")),
        "not UTF-8": tar_of(member("a\udcff")),
        "text from right to left": tar_of(member("a\u202eb")),
        "NUL": zip_of({"aXb": b""}).replace(b"aXb", b"a\0b"),
    },
    "has a name of more than 255 or a path of more than 1000 bytes": {
        "long name": tar_of(member(LONG)),
        "long path": zip_of({PATH: b""}),
    },
    "is there twice": {
        "twice": tar_of(member("a", 3), member("a", 3)),
        "twice but for case": zip_of({"x/a": b"1", "X/A": b"2"}),
        "twice with a dot": zip_of({"x/a": b"1", "x/./a": b"2"}),
        "file and folder": tar_of(member("a"), member("a", 0, tarfile.DIRTYPE)),
    },
    "claims -512 bytes": {"negative size": negative(-512)},
    "lies more than 20 folders deep": {"deep": tar_of(member("d/" * 20 + "a"))},
    "is a file and a folder": {"file in a file": zip_of({"a/b": b"1", "a": b"2"})},
    "holds no files": {"no files": zip_of({"a/": b""}), "nothing": bytes(10240)},
    "does not end with an empty block": {
        "second header": WHOLE_TAR.replace(b"b", b"x", 1),
        "cut between two members": WHOLE_TAR[: 3 * 512],
    },
    "CRC check failed": {"other checksum of the gzip file": GZ[:-8] + bytes(4) + GZ[-4:]},
    "a header of 1,000,000,000,000 bytes": {
        "name that takes all memory": gzip.compress(
            tar_of(member("a", 10**12, tarfile.GNUTYPE_LONGNAME))
        )
    },
    "a header of 512 bytes": {
        "headers without end": tar_of(*[member("a", 0, tarfile.XHDTYPE)] * 100)
    },
    "something follows its end": {
        "bomb behind its end": gzip.compress(WHOLE_TAR + bytes(2_000_000)),
        "something behind a zip": zip_of({"a": b"1"}) + b"2",
    },
    "1 members where its end claims 2": {
        "zip entry that hides the next": tampered(
            zip_of({"a": b"1", "b": b"2"}), COMMENT, "<H", 256, entry=0
        )
    },
    "UnicodeDecodeError": {
        "name of zip not UTF-8": zip_of({"\u00e9": b""}).replace(b"\xc3\xa9", b"\xc3\x28")
    },
}


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        pytest.param(reason, data, id=kind)
        for reason, archives_of_kind in FOUND_IN_HEADERS.items()
        for kind, data in archives_of_kind.items()
    ],
)
def test_what_headers_show_is_found_before_anything_is_written(tmp_path, reason, data):
    assert reason in refused(tmp_path, data)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "archive"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tar_files_are_unpacked_with_their_empty_folders(tmp_path, compress):
    data = tar_of(member("./", 0, tarfile.DIRTYPE), member("d/e", 0, tarfile.DIRTYPE), member("f"))
    (tmp_path / "archive").write_bytes(compress(data))
    unpack(tmp_path / "archive", tmp_path / "folder", LIMIT)
    paths = (tmp_path / "folder").rglob("*")
    entries = sorted((path.name, path.is_dir()) for path in paths)
    assert entries == [("d", True), ("e", True), ("f", False)]


def test_a_member_is_never_longer_than_its_header_claims(tmp_path):
    """A bomb of 500 KB that claims 10 bytes, with their checksum and with its own."""
    bomb = zip_of({"a": bytes(500_000)}, compression=zipfile.ZIP_DEFLATED)
    shorter = tampered(bomb, SIZE, "<I", 10)
    assert "Bad CRC-32 for file 'a'" in refused(tmp_path, shorter)
    assert (tmp_path / "folder/a").stat().st_size == 0
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "archive").write_bytes(tampered(shorter, CRC, "<I", zlib.crc32(bytes(10))))
    unpack(tmp_path / "archive", tmp_path / "folder", LIMIT)
    assert (tmp_path / "folder/a").read_bytes() == bytes(10)


def test_a_member_that_goes_on_is_stopped(tmp_path, monkeypatch):
    """Whatever a reader gives: no more than the claim is written."""
    data = zip_of({"a": bytes(40_000)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, member: io.BytesIO(bytes(50_000)))
    assert "member 'a': more than 40,000 bytes" in refused(tmp_path, data)
    assert (tmp_path / "folder/a").stat().st_size == 0


def test_a_member_that_is_shorter_than_its_header_claims_is_damage(tmp_path):
    reason = refused(tmp_path, tampered(zip_of({"a": b"12345"}), SIZE, "<I", 6))
    assert "member 'a' has fewer bytes than it claims" in reason and "get it again" in reason


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
