"""Fingerprints of images: the same for the same content, another one for any change."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mi_common.fingerprints import (
    BLOCK_BYTES,
    BLOCKS,
    MAX_WHOLE_BYTES,
    file_fingerprint,
    files_digest,
    fingerprint,
)

LABELS = torch.tensor([0, 1, 0, 1])


def write_pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat/a", "cat/b", "dog/a", "dog/b"):
        path = folder / f"{name}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)).save(path)
    return folder


def of_pictures(folder: Path, labels: torch.Tensor = LABELS, order: int = 1) -> str:
    paths = sorted(folder.rglob("*.bmp"))[::order]
    return fingerprint(paths, labels)


def test_the_same_pictures_elsewhere_have_the_same_fingerprint(tmp_path):
    first = of_pictures(write_pictures(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "deeper/two")
    assert of_pictures(tmp_path / "deeper/two") == first
    number, digest = first.split(" images, ")
    assert number == "4" and len(digest) == 16 and int(digest, 16) > 0


def replaced(folder: Path) -> None:
    path = folder / "cat/b.bmp"
    size = path.stat().st_size
    Image.fromarray(np.full((6, 8, 3), 7, np.uint8)).save(path)
    assert path.stat().st_size == size


def one_bit(folder: Path) -> None:
    content = bytearray((folder / "dog/b.bmp").read_bytes())
    content[-1] ^= 1
    (folder / "dog/b.bmp").write_bytes(content)


def swapped(folder: Path) -> None:
    (folder / "cat/a.bmp").rename(folder / "x")
    (folder / "cat/b.bmp").rename(folder / "cat/a.bmp")
    (folder / "x").rename(folder / "cat/b.bmp")


CHANGES = {
    "a picture of the same size in its place": replaced,
    "one bit": one_bit,
    "two pictures swapped": swapped,
    "renamed": lambda folder: (folder / "cat/a.bmp").rename(folder / "cat/a0.bmp"),
    "in another class": lambda folder: (folder / "dog/a.bmp").rename(folder / "cat/c.bmp"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_pictures_changes_it(tmp_path, change):
    before = of_pictures(write_pictures(tmp_path))
    CHANGES[change](tmp_path)
    assert of_pictures(tmp_path) != before


def test_pictures_added_removed_reordered_or_labelled_otherwise_change_it(tmp_path):
    before = of_pictures(write_pictures(tmp_path))
    found = {before, of_pictures(tmp_path, order=-1), of_pictures(tmp_path, LABELS.flip(0))}
    found.add(of_pictures(tmp_path, LABELS.int()))
    shutil.copy(tmp_path / "cat/a.bmp", tmp_path / "dog/c.bmp")
    found.add(of_pictures(tmp_path, torch.tensor([0, 0, 1, 1, 1])))
    for name in ("dog/c.bmp", "dog/b.bmp"):
        (tmp_path / name).unlink()
    found.add(of_pictures(tmp_path, LABELS[:3]))
    assert len(found) == 6


def test_names_and_content_are_not_mixed_up(tmp_path):
    """Moving bytes from a name to the content, or between neighbours, is a change."""
    digests = []
    for number, files in enumerate(
        [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "", "c": "b"}]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        digests.append(files_digest(sorted(folder.iterdir())))
    assert len(set(digests)) == 4


def test_tensors_count_by_every_bit_their_type_and_their_shape():
    images = torch.arange(24, dtype=torch.float32).reshape(4, 2, 3)
    before = fingerprint(images, LABELS)
    assert before == fingerprint(images.clone(), LABELS.clone())
    transposed = images.transpose(1, 2).contiguous().transpose(1, 2)
    assert not transposed.is_contiguous() and fingerprint(transposed, LABELS) == before
    one_bit = images.clone()
    one_bit.view(torch.int32)[3, 1, 2] ^= 1
    assert one_bit[3, 1, 2] != 23 and abs(one_bit[3, 1, 2] - 23) < 1e-5
    negative_zero = images.clone()
    negative_zero[0, 0, 0] = -0.0
    changed = [
        one_bit,
        negative_zero,
        images.double(),
        images.int(),
        images.bfloat16(),
        images.bool(),
    ]
    changed += [images.view(torch.int32), images.reshape(4, 3, 2), images[[1, 0, 2, 3]]]
    assert len({before, *(fingerprint(each, LABELS) for each in changed)}) == 1 + len(changed)


@pytest.fixture
def read_bytes(monkeypatch) -> list[tuple[int, int]]:
    """(position, length) of all that is read of files from here on."""
    calls, original = [], Path.open

    def recorded(path, mode="r", **options):
        file = original(path, mode, **options)

        class Recorded:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def __getattr__(self, name):
                return getattr(file, name)

            def read(self, size=-1):
                position = file.tell()
                content = file.read(size)
                calls.append((position, len(content)))
                return content

        return Recorded()

    monkeypatch.setattr(Path, "open", recorded)
    return calls


def test_large_files_are_sampled_at_sixteen_places_from_the_first_byte_to_the_last(
    tmp_path, read_bytes
):
    path, size = tmp_path / "large.bmp", 50_000_000
    with open(path, "wb") as file:
        file.truncate(size)  # a hole: takes no space
    before = files_digest([path])
    starts = [start for start, _ in read_bytes]
    assert [length for _, length in read_bytes] == [BLOCK_BYTES] * BLOCKS
    assert (
        starts[0] == 0
        and starts[-1] + BLOCK_BYTES == size
        and BLOCKS * BLOCK_BYTES <= MAX_WHOLE_BYTES
    )
    assert np.diff(starts) == pytest.approx((size - BLOCK_BYTES) / (BLOCKS - 1), abs=1)
    for position in (0, starts[7], starts[7] + BLOCK_BYTES - 1, size - 1):
        with open(path, "r+b") as file:
            file.seek(position)
            file.write(b"x")
        assert files_digest([path]) != before
        with open(path, "r+b") as file:
            file.seek(position)
            file.write(b"\0")
        assert files_digest([path]) == before
    with open(path, "ab") as file:
        file.write(b"\0")  # the size counts by itself
    assert files_digest([path]) != before


@pytest.mark.parametrize("size", [MAX_WHOLE_BYTES - 1, MAX_WHOLE_BYTES])
def test_small_files_are_read_whole(tmp_path, read_bytes, size):
    path = tmp_path / "small.bmp"
    path.write_bytes(bytes(size))
    before = files_digest([path])
    assert read_bytes == [(0, size)]
    for position in (0, size // 3, size - 1):
        content = bytearray(size)
        content[position] = 1
        path.write_bytes(content)
        assert files_digest([path]) != before


def test_weights_are_hashed_to_the_last_byte_on_every_python(tmp_path, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)  # new in Python 3.11
    path = tmp_path / "weights.pt"
    content = np.random.default_rng(0).bytes(3_000_001)
    path.write_bytes(content)
    assert file_fingerprint(path) == hashlib.sha256(content).hexdigest()[:16]
