"""The CUB segmentations go into the folder of CUB, which has to be there."""

import dataclasses

import pytest

from scripts.published import OFFICIAL

NAME = "cub-segmentations"
MASKS = {
    f"segmentations/{folder}/1.png": folder.encode() * 100 for folder in OFFICIAL[NAME].required
}


@pytest.fixture
def cub(place) -> dict[str, bytes]:
    """CUB, installed."""
    assert place.run("cub", place.pack("cub.tgz", place.images("cub"))).status == 0
    return place.images("cub")


def inside_cub(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"CUB_200_2011/{file}": data for file, data in files.items()}


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_archive_lands_inside_cub_and_is_left_alone_there(place, cub, kind):
    archive = place.pack(f"mine.{kind}", MASKS | {"readme.txt": b"dropped"})
    status, out, _ = place.run(NAME, archive)
    folder = place.data / "CUB_200_2011/segmentations"
    assert status == 0 and out.endswith(f"{NAME}: installed in {folder}\n")
    assert place.installed() == cub | inside_cub(MASKS)
    (folder / OFFICIAL[NAME].required[0] / "1.png").write_bytes(b"changed")
    before = place.installed()
    said = f"{NAME}: {folder} is there already and complete; to replace it, delete it first\n"
    assert place.run(NAME, archive) == (0, said, "")
    assert place.installed() == before


def test_without_cub_they_are_refused(place):
    archive = place.pack("mine.zip", MASKS)
    result = place.run(NAME, archive)
    result.refused("no cub data", str(place.data / "CUB_200_2011"), "scripts.download_data cub ")
    assert not place.data.exists()


def test_another_archive_is_refused_and_leaves_cub_alone(place, cub):
    archive = place.pack("other.zip", {"segmentations/001.Black_footed_Albatross/1.png": b"one"})
    place.run(NAME, archive).refused(f"{archive}: not {NAME}: 200.Common_Yellowthroat not found")
    assert place.installed() == cub


def test_the_official_archive_is_downloaded_and_checked(place, cub, monkeypatch):
    archive = place.pack("segmentations.tgz", MASKS)
    official = dataclasses.replace(OFFICIAL[NAME], url=archive.as_uri())
    monkeypatch.setitem(OFFICIAL, NAME, official)
    found = place.md5(archive.read_bytes())
    place.run(NAME).refused(f"md5 {found}, not 4d47ba1228eae64f2fa547c47bc65255", "--archive FILE")
    assert place.installed() == cub
    monkeypatch.setitem(OFFICIAL, NAME, dataclasses.replace(official, md5=found))
    assert place.run(NAME).status == 0
    assert place.installed() == cub | inside_cub(MASKS)
