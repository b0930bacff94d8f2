"""Damaged files: one line that names the file and what to delete, or exactly what was written."""

import shutil
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from common.backbones import GlobalAveragePoolClassifier, InputSpec
from common.engine import TensorBatches, fit
from common.errors import UserError
from common.features import BLOCK, cached_features, read_rows, write_rows
from common.files import read_arrays, save_arrays
from common.image_files import ImageFiles
from common.records import RunFolder

FLIPS = 200
CHECKPOINT = "checkpoint.pt: damaged, its content is not what was written; delete it and train "
CHECKPOINT += "again with --resume"
PREDICTIONS = "predictions.npz: damaged, its content is not what was written; write it again with "
PREDICTIONS += "--overwrite"
FEATURES = "features.npy: damaged; delete it, and its features are computed again"


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
            assert str(error) == f"{tmp_path}/{message}"
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
    bits = np.random.default_rng(0).choice(8 * len(check.content), FLIPS, replace=False)
    found = sum(check(flipped(check.content, int(bit))) for bit in bits)
    # A zip file has padding and dates that say nothing; a feature file has neither.
    assert found == FLIPS if check.kind == "features.npy" else FLIPS * 0.6 < found < FLIPS
    assert not check(check.content)


def test_no_flipped_bit_of_a_header_or_directory_gives_other_values(check):
    """Where a reader looks for names, types, shapes, sizes and offsets: every third bit of it."""
    size = 8 * len(check.content)
    bits = [*range(0, 8 * 160, 3), *range(max(0, size - 8 * 700), size, 3)]
    found = sum(check(flipped(check.content, bit)) for bit in bits)
    assert found > 0.3 * len(bits)
    if check.kind == "features.npy":
        assert found == len(bits)


def test_cut_zeroed_and_lengthened_files_are_found_out(check):
    content, half = check.content, len(check.content) // 2
    rng = np.random.default_rng(1)
    damage = [content[: int(size)] for size in rng.integers(1, len(content), 40)]
    damage += [b"", content[:1], content[:-1], content[:half] + bytes(len(content) - half)]
    damage += [bytes(half) + content[half:], bytes(len(content)), content[::-1], content[half:]]
    damage += [content[:half] + content[half + 1 :], b"\0" + content[:-1]]
    for changed in damage:
        assert check(changed), len(changed)
    for more in (b"\0", b"\n", content[-1:], rng.bytes(100), bytes(70_000), content):
        check(content + more)
        check(more + content)


def test_a_swap_of_two_whole_files_is_found_out_or_harmless(check, tmp_path, cpu):
    for kind, (write, _, _) in KINDS.items():
        if kind != check.kind:
            other = tmp_path / "other"
            shutil.rmtree(other, ignore_errors=True)
            other.mkdir()
            write(other, cpu)
            content = (other / kind).read_bytes()
            (tmp_path / check.kind).write_bytes(content)
            with pytest.raises(UserError, match=check.kind) as error:
                KINDS[check.kind][1](tmp_path)
            assert len(str(error.value).splitlines()) == 1


def test_every_block_of_a_large_feature_file_has_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr("common.features.BLOCK", 1000)
    rows = np.random.default_rng(0).normal(size=(700, 9)).astype(np.float16)  # 12.6 blocks
    path = tmp_path / "features.npy"
    write_rows(path, 700, iter(np.split(rows, [1, 300, 301])))
    assert np.array_equal(read_rows(path), rows) and BLOCK > 1000
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
    images = ImageFiles("mini", paths, torch.zeros(6, dtype=torch.int64), ["only"])
    options = {"kind": "maps", "runtime": cpu, "num_workers": 0, "batch_size": 2}
    return lambda: cached_features(network, images, tmp_path / "cache", **options), sizes


def test_space_for_features_is_taken_before_the_work(extraction, tmp_path, monkeypatch):
    compute, sizes = extraction
    needed = 128 + 6 * 6 * 3 * 3 * 2 + 8  # header, float16 values, two checksums
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, needed - 1))
    with pytest.raises(UserError) as error:
        compute()
    assert str(error.value) == (
        f"{tmp_path}/cache: cached features need 0.00 GB and 0.00 GB are free; free some space or "
        "use another --data-dir"
    )
    assert sum(sizes) == 2  # the first batch, whose shape says how much space it takes
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, needed))
    assert compute().shape == (6, 6, 3, 3)
    assert sum(sizes) == 2 + 6


def test_a_disk_that_cannot_give_what_it_promised_is_one_line(extraction, tmp_path, monkeypatch):
    compute, sizes = extraction
    asked = []

    def full(descriptor, start, size):
        asked.append((start, size))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(
        UserError, match=r"cache: cached features need 0\.00 GB and .* GB are free;"
    ):
        compute()
    assert asked == [(0, 128 + 6 * 6 * 3 * 3 * 2 + 8)] and sum(sizes) == 2
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
