"""What `scripts.download_data --archive` takes and refuses, and that nothing lands outside."""

import gzip
import os

import pytest

from scripts.dataset_files import OFFICIAL, RAW_MD5

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


def test_other_files_of_an_archive_are_left_and_another_checksum_is_reported(place):
    archive = place.pack("CUB.tgz", place.images("cub") | {"attributes.txt": b"1 blue"})
    status, out, _ = place.run("cub", archive)
    md5 = place.md5(archive.read_bytes())
    assert status == 0 and md5 in out and "97eceeb196236b17998738112f37df78" in out
    assert place.installed() == place.images("cub")


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_segmentations_land_inside_cub(place, kind):
    name, masks = "cub-segmentations", place.images("cub-segmentations")
    inside = {file.removeprefix("CUB_200_2011/"): data for file, data in masks.items()}
    archive = place.pack(f"masks.{kind}", inside | {"readme.txt": b"left"})
    place.run(name, archive).refused("no cub data", "scripts.download_data cub ")
    assert not place.data.exists()
    assert place.run("cub", place.pack("cub.tgz", place.images("cub"))).status == 0
    part = place.pack("part.zip", dict(list(inside.items())[:1]))
    place.run(name, part).refused(str(part), "200.Common_Yellowthroat not found")
    assert place.installed() == place.images("cub")
    for _ in range(2):  # the second time they are there already
        assert place.run(name, archive).status == 0
        assert place.installed() == place.images("cub") | masks


DAMAGE = {
    "flipped zip": lambda data: data[:5000] + bytes([data[5000] ^ 255]) + data[5001:],
    "cut tgz": lambda data: data[:-4000],
    "cut tar": lambda data: data[:50_000],
    "cut zip": lambda data: data[:-4000],
    "text zip": lambda data: b"<html>404</html>",
    "empty zip": lambda data: b"",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_archive_is_refused(place, kind):
    whole = place.pack(f"whole.{kind[-3:]}", {str(i): os.urandom(3000) for i in range(20)})
    archive = place.root / "damaged"
    archive.write_bytes(DAMAGE[kind](whole.read_bytes()))
    place.run("mnist", archive).refused(f"{archive}: no whole zip or tar file", "get it again")
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


def test_an_unknown_name_is_refused(place):
    status, _, err = place.run("imagenet")
    assert status == 2 and err.count("\n") == 1
    assert "mnist" in err and "tiny-imagenet" in err


@pytest.mark.parametrize("kind", ["zip", "tgz"])
@pytest.mark.parametrize("name", ["CUB_200_2011/../../evil", "CUB_200_2011/a..b"])
def test_a_member_outside_the_folder_is_refused_and_harmless_dots_are_not(place, kind, name):
    files = place.images("cub") | {name: b"dots"}
    result = place.run("cub", place.pack(f"a.{kind}", files))
    if "/../" in name:
        result.refused(repr(name), "outside the folder")
        assert place.top() == []
    else:
        assert result.status == 0 and place.installed() == files
    assert sorted(path.name for path in place.root.iterdir()) == [f"a.{kind}", "data"]
