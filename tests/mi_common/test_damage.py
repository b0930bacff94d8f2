"""Damaged files: one line that names the file and what to delete, or exactly what was written."""

import re
import shutil
import warnings
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.engine import TensorBatches, fit
from mi_common.errors import UserError
from mi_common.features import cached_features
from mi_common.files import read_arrays, save_arrays
from mi_common.image_sets import ImageSet
from mi_common.records import RunFolder
from mi_common.row_files import BLOCK_BYTES, read_rows, write_rows

FLIPS = 200
CHECKPOINT = r"checkpoint\.pt: damaged, .*; delete it and train again with --resume"
PREDICTIONS = r"predictions\.npz: damaged, .*; train again with --overwrite"
FEATURES = r"features\.npy: damaged; delete it.*"


def write_checkpoint(folder: Path, cpu) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 3))
    x, y = torch.randn(16, 6), torch.arange(16) % 3
    batches = TensorBatches(x, y, batch_size=8, seed=0, runtime=cpu)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    run = RunFolder(folder)
    fit(model, batches, cross_entropy, optimizer, epochs=2, runtime=cpu, run=run)


def write_predictions(folder: Path, cpu) -> None:
    rng = np.random.default_rng(0)
    arrays = {"test_logits": rng.normal(size=(40, 5)), "test_labels": rng.integers(0, 5, 40)}
    names = ["cat", "Großer Hund", "猫", "d", "e"]
    save_arrays(folder / "predictions.npz", **arrays, counts=np.arange(5), class_names=names)


def write_features(folder: Path, cpu) -> None:
    rows = np.random.default_rng(0).normal(size=(64, 4, 3)).astype(np.float16)
    write_rows(folder / "features.npy", 64, iter([rows[:25], rows[25:50], rows[50:]]))


def flat(value, name: str = "") -> dict:
    """Leaves of nested dicts and lists by their path, arrays as type, shape and bytes."""
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in parts for k, v in flat(part, f"{name}/{key!r}").items()}
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        value = (value.dtype, value.shape, value.tobytes())
    return {name: (type(value), value)}


KINDS = {
    "checkpoint.pt": (
        write_checkpoint,
        lambda folder: RunFolder(folder).load_checkpoint(),
        CHECKPOINT,
    ),
    "predictions.npz": (
        write_predictions,
        lambda folder: read_arrays(folder / "predictions.npz"),
        PREDICTIONS,
    ),
    "features.npy": (
        write_features,
        lambda folder: {"rows": np.array(read_rows(folder / "features.npy"))},
        FEATURES,
    ),
}


@pytest.fixture(params=KINDS)
def check(request, tmp_path, cpu):
    """Reads the file with other content: whether that was found to be damaged.

    Anything but the file's own error, or the values that were written, fails.
    """
    write, read, message = KINDS[request.param]
    write(tmp_path, cpu)
    path = tmp_path / request.param
    written = flat(read(tmp_path))
    assert len(written) >= 1

    def damaged(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it would be a second line
                found = flat(read(tmp_path))
        except UserError as error:
            assert re.fullmatch(f"{tmp_path}/{message}", str(error))
            return True
        assert found == written
        return False

    damaged.content = path.read_bytes()
    damaged.kind = request.param
    return damaged


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_gives_other_values(check):
    """Random bits, and every 17th of the header and of the directory, which say how to read."""
    size = 8 * len(check.content)
    bits = {*range(0, 8 * 160, 17), *range(max(0, size - 8 * 1300), size, 17)}
    bits |= set(np.random.default_rng(0).choice(size, FLIPS, replace=False).tolist())
    noticed = sum(check(flipped(check.content, bit)) for bit in sorted(bits))
    # Two bytes say that there is a checksum; a bit of them says nothing else.
    assert noticed >= len(bits) - 2
    assert not check(check.content)


def test_a_bit_that_makes_a_folder_of_an_entry_is_found_out(tmp_path, cpu):
    """torch reads zeros for it; the checksum of the entry itself is right."""
    write_checkpoint(tmp_path, cpu)
    path = tmp_path / "checkpoint.pt"
    content, start, tried = path.read_bytes(), 0, 0
    while (start := content.find(b"PK\1\2", start + 1)) > 0:  # an entry of the directory
        path.write_bytes(flipped(content, 8 * (start + 38) + 4))
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with pytest.raises(UserError, match=CHECKPOINT):
            RunFolder(tmp_path).load_checkpoint()
        tried += 1
    assert tried > 10


def test_files_with_a_checksum_are_what_numpy_and_torch_read_themselves(tmp_path, cpu):
    write_checkpoint(tmp_path, cpu)
    write_predictions(tmp_path, cpu)
    plain = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert flat(plain) == flat(RunFolder(tmp_path).load_checkpoint())
    with np.load(tmp_path / "predictions.npz") as file:
        assert flat(dict(file)) == flat(read_arrays(tmp_path / "predictions.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_of_files_that_others_wrote_is_found_by_the_checksums_of_their_entries(
    tmp_path, save
):
    path = tmp_path / "predictions.npz"
    save(path, a=np.random.default_rng(0).normal(size=(30, 5)), b=np.arange(9))
    content, written = path.read_bytes(), flat(read_arrays(path))
    bits = np.random.default_rng(2).choice(8 * (len(content) - 200), 100, replace=False)
    results = []
    for bit in bits:
        path.write_bytes(flipped(content, int(bit)))
        try:
            results.append(flat(read_arrays(path)) == written)
        except UserError as error:
            assert re.fullmatch(f"{tmp_path}/{PREDICTIONS}", str(error))
    assert all(results) and len(results) < 30


def test_cut_zeroed_and_lengthened_files_are_found_out(check):
    content, half = check.content, len(check.content) // 2
    rng = np.random.default_rng(1)
    damage = [content[: int(size)] for size in rng.integers(1, len(content) - 4, 40)]
    damage += [b"", content[:1], content[:half] + bytes(len(content) - half)]
    damage += [bytes(half) + content[half:], bytes(len(content)), content[::-1], content[half:]]
    damage += [content[:half] + content[half + 1 :], b"\0" + content[:-1]]
    for changed in damage:
        assert check(changed), len(changed)
    check(content[:-1])  # of the checksum alone
    for more in (b"\0", b"\n", content[-1:], rng.bytes(100), bytes(70_000), content):
        check(content + more)
        check(more + content)


def test_a_file_of_another_kind_in_its_place_is_one_line(tmp_path, cpu):
    save_arrays(tmp_path / "a.npz", rows=np.zeros((3, 4)))
    for name, read, message in (
        ("features.npy", lambda: read_rows(tmp_path / "features.npy"), FEATURES),
        ("checkpoint.pt", lambda: RunFolder(tmp_path).load_checkpoint(), CHECKPOINT),
    ):
        shutil.copy(tmp_path / "a.npz", tmp_path / name)
        with pytest.raises(UserError, match=message):
            read()


def test_every_block_of_a_large_feature_file_has_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr("mi_common.row_files.BLOCK_BYTES", 1000)
    rows = np.random.default_rng(0).normal(size=(700, 9)).astype(np.float16)  # 12.6 blocks
    path = tmp_path / "features.npy"
    write_rows(path, 700, iter(np.split(rows, [1, 300, 301])))
    assert np.array_equal(read_rows(path), rows) and BLOCK_BYTES > 1000
    content = path.read_bytes()
    header = len(content) - rows.nbytes - 4 * (1 + 13)
    for block in range(13):
        start = header + 1000 * block
        end = min(start + 1000, header + rows.nbytes)
        for changed in (
            content[:start] + bytes(end - start) + content[end:],
            flipped(content, 8 * end - 1),
        ):
            path.write_bytes(changed)
            with pytest.raises(UserError, match=r"features\.npy: damaged; delete it"):
                read_rows(path)


@pytest.fixture
def extraction(tmp_path, cpu):
    """Computes features of six pictures: `extraction()`; and the sizes of the batches computed."""
    torch.manual_seed(0)
    trunk = nn.Conv2d(3, 6, 3, stride=4)
    network = GlobalAveragePoolClassifier(trunk, 6, 2, InputSpec(12))
    sizes = []
    trunk.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(path)
    images = ImageSet("mini", paths, torch.zeros(6, dtype=torch.int64), ["only"])
    options = {"kind": "maps", "runtime": cpu, "num_workers": 0, "batch_size": 2}
    return lambda: cached_features(network, images, tmp_path / "cache", **options), sizes


def test_space_for_features_is_taken_before_the_work(extraction, tmp_path, monkeypatch):
    compute, sizes = extraction
    needed = 128 + 6 * 6 * 3 * 3 * 2 + 8  # header, float16 values, two checksums
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, needed - 1))
    with pytest.raises(UserError, match=r"^cached features: needs 0\.0 MB, .* in .*/cache; free"):
        compute()
    assert sum(sizes) == 2  # the first batch, whose shape says how much space it takes
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, needed))
    assert compute().shape == (6, 6, 3, 3)
    assert sum(sizes) == 2 + 6


def test_a_disk_that_cannot_give_what_it_promised_is_an_error(extraction, tmp_path, monkeypatch):
    compute, sizes = extraction
    asked = []

    def full(descriptor, start, size):
        asked.append((start, size))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device"):  # an entry makes it one line
        compute()
    assert asked == [(0, 128 + 6 * 6 * 3 * 3 * 2 + 8)] and sum(sizes) == 2
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
