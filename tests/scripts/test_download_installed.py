"""What `scripts.download_data` leaves: whole data sets or nothing, and what was there as it was."""

import gzip
import itertools
import struct
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from mi_common.image_files import tiny_imagenet
from scripts import archives, installation
from scripts.dataset_files import OFFICIAL, RAW_MD5

SETS = [name for name in OFFICIAL if name != "cub-segmentations"]  # a part of another


@pytest.mark.parametrize("fault", [None, "missing", "changed", "folder"])
def test_files_put_by_hand_are_checked_and_left_alone(small, place, monkeypatch, fault):
    monkeypatch.setattr(MNIST, "mirrors", [place.mirror(small)])  # would work
    folder = place.data / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, data in small.items():
        (folder / name).write_bytes(data)
    bad = folder / "t10k-images-idx3-ubyte"
    if fault:
        bad.unlink()
    if fault == "changed":
        bad.write_bytes(b"something else")
    elif fault == "folder":
        bad.mkdir()
    before, result = place.installed(), place.run("mnist")
    if fault is None:
        assert result.status == 0 and f"{folder} is there already and complete" in result.out
    else:
        words = f"md5 {place.md5(b'something else')}" if fault == "changed" else "not found"
        result.refused(str(folder), bad.name, words, "delete it first")
    assert place.installed() == before


@pytest.mark.parametrize("name", SETS)
def test_an_existing_folder_is_not_overwritten(place, name):
    archive = place.pack("a.zip", place.images(name))
    folder, required = place.data / OFFICIAL[name].folder, OFFICIAL[name].required
    assert place.run(name, archive).status == 0
    (folder / required[0]).write_text("mine")
    before = place.installed()
    assert f"{folder} is there already and complete" in place.run(name, archive).out
    (folder / required[1]).unlink()
    del before[f"{folder.name}/{required[1]}"]
    place.run(name, archive).refused(str(folder), required[1], "delete it")
    assert place.installed() == before


def break_off(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["zip", "tgz", "mirror"])
def test_an_interruption_leaves_nothing(small, place, monkeypatch, kind):
    """At the third file, of the extraction or of the download."""
    monkeypatch.setattr(MNIST, "mirrors", [place.mirror(small)])
    archive = None if kind == "mirror" else place.pack(f"a.{kind}", small)
    module, name = (installation, "copy_at_most") if archive is None else (archives, "_extract")
    original, calls = getattr(module, name), itertools.count(1)
    with monkeypatch.context() as patch:
        third = lambda *args: break_off() if next(calls) == 3 else original(*args)  # noqa: E731
        patch.setattr(module, name, third)
        assert place.run("mnist", archive).status == 130
    assert place.top() == []
    assert place.run("mnist", archive).status == 0
    assert place.installed() == place.raw("MNIST", small)


@pytest.mark.parametrize("name", ["mnist", "cub"])
def test_the_folder_appears_by_one_rename(small, place, monkeypatch, name):
    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    archive = place.pack("a.zip", place.images("cub") if name == "cub" else small)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        place.run(name, archive).refused("No space left on device; free some space")
    assert place.installed() == {}
    assert place.run(name, archive).status == 0
    assert place.installed() == (
        place.images("cub") if name == "cub" else place.raw("MNIST", small)
    )


# Real data, where it is at hand


def test_the_partial_tiny_imagenet(place, shared_data):
    status, out, err = place.run("tiny-imagenet", shared_data / "tiny-imagenet-200.zip")
    assert (status, err) == (0, "")
    assert f"the official archive {OFFICIAL['tiny-imagenet'].md5}; going on" in out
    train, val = (tiny_imagenet(place.data, split) for split in ("train", "test"))
    assert (len(train), len(val)) == (20_000, 5_000)
    assert torch.bincount(train.labels).tolist() == [100] * 200
    assert all(path.is_file() for path in train.images + val.images)


def test_the_partial_cub(place, shared_data):
    status, _, err = place.run("cub", shared_data / "cub-200-2011-annotations.zip")
    assert (status, err) == (0, "")
    files = [place.data / "CUB_200_2011" / name for name in OFFICIAL["cub"].required]
    lines = {file.name: len(file.read_text().splitlines()) for file in files}
    assert lines.pop("classes.txt") == 200
    assert set(lines.values()) == {11_788}


def test_the_md5_of_fashion_mnist_is_of_what_the_mirror_has(place):
    """Debian cut name and time out of the gzip headers; put back, they give torchvision's md5."""
    folder = installation.DEBIAN_FOLDER
    if not folder.is_dir():
        pytest.skip(f"{folder}: Debian package {installation.DEBIAN_PACKAGE} is not installed")
    for file, expected in FashionMNIST.resources:
        name, data = file.removesuffix(".gz"), (folder / file).read_bytes()
        seconds = 1504176606 if name.startswith("train") else 1504176627
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", seconds) + b"\x00\x03"
        assert place.md5(header + name.encode() + b"\x00" + data[10:]) == expected
        assert place.md5(gzip.decompress(data)) == RAW_MD5["fashion-mnist"][name]
