"""What `scripts.download_data --archive` takes and refuses, and that nothing lands outside."""

import gzip
import os
import stat
import tarfile
import zipfile

import pytest

from scripts import archives
from scripts.published import OFFICIAL, RAW_MD5

FIRST = "train-images-idx3-ubyte"
SETS = [name for name in OFFICIAL if name != "cub-segmentations"]  # a part of another


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inner", ["", "some/folder/", "{name}/"])
def test_an_archive_of_idx_files(small, place, kind, zipped, inner):
    files = {inner.format(name=name) + name: data for name, data in small.items()}
    if zipped:
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    archive = place.pack(f"mine.{kind}", files)
    out = f"mnist: installed in {place.data / 'MNIST' / 'raw'}\n"
    assert place.run("mnist", archive) == (0, out, "")
    assert place.installed() == place.raw("MNIST", small)


@pytest.mark.parametrize("name", [*RAW_MD5, *SETS])
def test_an_archive_without_the_content_is_refused(small, place, name):
    archive = place.pack("other.zip", {"readme.txt": b"hello"})
    first = FIRST if name in RAW_MD5 else OFFICIAL[name].required[0]
    place.run(name, archive).refused(str(archive), first, "not found")
    assert place.installed() == {}


def test_what_lies_beside_the_official_folder_is_dropped(place):
    archive = place.pack("CUB.tgz", place.images("cub") | {"attributes.txt": b"1 blue"})
    status, out, _ = place.run("cub", archive)
    assert status == 0
    found, official = place.md5(archive.read_bytes()), "97eceeb196236b17998738112f37df78"
    assert f"has md5 {found}, the official archive {official}" in out
    assert place.installed() == place.images("cub")


DAMAGE = {
    "flipped zip": (
        lambda data: data[:5000] + bytes([data[5000] ^ 255]) + data[5001:],
        "BadZipFile: Bad CRC-32 for file '1'",
    ),
    "cut tgz": (
        lambda data: data[:-4000],
        "EOFError: Compressed file ended before the end-of-stream marker was reached",
    ),
    "cut tar": (lambda data: data[:50_000], "ReadError: unexpected end of data"),
    "cut zip": (lambda data: data[:-4000], "BadZipFile: File is not a zip file"),
    "text zip": (lambda data: b"<html>404</html>", "ReadError: truncated header"),
    "empty zip": (lambda data: b"", "ReadError: empty file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_archive_is_refused(place, kind):
    whole = place.pack(f"whole.{kind[-3:]}", {str(i): os.urandom(3000) for i in range(20)})
    archive, (damage, reason) = place.root / "damaged", DAMAGE[kind]
    archive.write_bytes(damage(whole.read_bytes()))
    line = f"error: {archive}: no whole .zip, .tar or .tgz archive ({reason}); get it again\n"
    assert place.run("mnist", archive) == (2, "", line)
    assert place.top() == []


def test_a_damaged_gz_in_an_archive_is_refused(place):
    archive = place.pack("a.zip", {f"{FIRST}.gz": gzip.compress(bytes(9000))[:-12]})
    place.run("mnist", archive).refused(f"{archive}: {FIRST}.gz is damaged (")
    assert place.top() == []


def test_a_gz_that_unpacks_to_more_than_the_official_file_is_stopped(small, place):
    bomb = {"train-labels-idx1-ubyte.gz": gzip.compress(bytes(50_000_000))}
    files = {name: data for name, data in small.items() if f"{name}.gz" not in bomb}
    archive = place.pack("a.zip", files | bomb)
    reason = "train-labels-idx1-ubyte.gz is damaged (unpacked: more than 60,008 bytes)"
    assert place.run("mnist", archive) == (2, "", f"error: {archive}: {reason}\n")
    assert place.top() == []


def test_a_missing_archive_is_refused(place):
    for path in (place.root / "no.tgz", place.root):
        place.run("cub", path).refused(f"--archive {path}:", "no such file")
    assert not place.data.exists()


def test_an_unknown_name_is_refused(place):
    status, _, err = place.run("imagenet")
    assert status == 2 and err.count("\n") == 1
    assert "mnist" in err and "tiny-imagenet" in err


# Safety of the extraction


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


EVIL = {
    "tar dots": special("CUB_200_2011/../../evil", tarfile.REGTYPE),
    "tar absolute": special("/nowhere/evil", tarfile.REGTYPE),
    "tar backslash": special("..\\evil", tarfile.REGTYPE),
    "tar folder": special("../evil", tarfile.DIRTYPE),
    "tar symlink": special("CUB_200_2011/evil", tarfile.SYMTYPE, "../../.."),
    "tar hardlink": special("CUB_200_2011/evil", tarfile.LNKTYPE, "../../../outside"),
    "tar device": special("CUB_200_2011/evil", tarfile.CHRTYPE),
    "tar pipe": special("CUB_200_2011/evil", tarfile.FIFOTYPE),
    "zip dots": zipfile.ZipInfo("CUB_200_2011/../../evil"),
    "zip absolute": zipfile.ZipInfo("/nowhere/evil"),
    "zip drive": zipfile.ZipInfo("C:/evil"),
    "zip backslash": zipfile.ZipInfo("..\\evil"),
    "zip symlink": zipfile.ZipInfo("CUB_200_2011/evil"),
}
EVIL["zip symlink"].external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize("kind", EVIL)
def test_a_member_that_leaves_the_folder_is_refused(place, monkeypatch, kind):
    extracted = []
    monkeypatch.setattr(archives, "_extract", lambda *args: extracted.append(args))
    path, member = place.pack(f"evil.{kind[:3]}", place.images("cub")), EVIL[kind]
    if kind.startswith("tar"):
        with tarfile.open(path, "a") as archive:
            archive.addfile(member)
        name = member.name
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, b"../../..")
        name = member.filename
    reason = f"{path}: member {name!r} is a link, a device, sparse or outside the folder\n"
    place.run("cub", path).refused(reason)
    assert extracted == [] and place.top() == []
    assert sorted(p.name for p in place.root.iterdir()) == ["data", path.name]


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_harmless_archives_are_extracted(place, kind):
    """The guard of the test above does not refuse everything."""
    files = place.images("cub") | {"CUB_200_2011/a..b": b"dots"}
    assert place.run("cub", place.pack(f"good.{kind}", files)).status == 0
    assert place.installed() == files
