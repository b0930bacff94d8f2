"""Saved maps that are not finite, headers that claim what is not there, sizes beyond the memory."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from infocam.data.annotations import read_annotations
from infocam.scoring import saved_maps
from infocam.scoring.protocols import PROTOCOLS
from infocam.scoring.saved_maps import evaluate_saved_maps, read_map, saved_curves
from mi_common.errors import UserError

COUNT = 6


def write_maps(folder: Path, size: str = "8,6") -> Path:
    """Six images of 8 x 6 pixels, each with a box, and their 3 x 4 maps, with ranks."""
    (folder / "maps").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines, ranks = ["image,width,height,x0,y0,x1,y1"], ["image,rank"]
    for i in range(COUNT):
        np.save(folder / f"maps/{i}.npy", rng.normal(size=(3, 4)))
        lines.append(f"{i},{size},{i},1,7,{2 + i // 2}")
        ranks.append(f"{i},{i}")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "maps/predictions.csv").write_text("\n".join(ranks) + "\n")
    return folder


def evaluated(folder: Path, validation: Path | None = None, name: str = "infocam"):
    pairs = [where and (where / "maps", where / "boxes.csv") for where in (folder, validation)]
    evaluation = evaluate_saved_maps(
        *pairs, PROTOCOLS[name], normalisation="minmax", fixed=0.2, workers=None
    )
    return evaluation.rows


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_maps_that_are_not_finite_are_counted_and_score_as_zero_maps(tmp_path, capsys, value):
    folder = write_maps(tmp_path / "some")
    zeros = write_maps(tmp_path / "zeros")
    for number in (1, 4):
        values = np.load(folder / f"maps/{number}.npy")
        values[2, 1] = value
        np.save(folder / f"maps/{number}.npy", values)
        np.save(zeros / f"maps/{number}.npy", np.zeros((3, 4)))
    rows = evaluated(folder)
    assert rows["non_finite_maps"].tolist() == [0, 0, 2, 2]
    assert rows["method"].tolist() == ["whole-image", "centre-box", "maps", "maps"]
    assert capsys.readouterr().out == (
        f"maps of {folder}/maps, 6/6\n"
        "Note: 2 of 6 test maps hold NaN or infinite values and are scored like zeros; the first "
        f"is {folder}/maps/1.npy\n"
    )
    of_zeros = evaluated(zeros)
    assert of_zeros["non_finite_maps"].tolist() == [0] * 4
    assert "Note" not in capsys.readouterr().out
    changing = ["run", "non_finite_maps"]
    assert rows.drop(columns=changing).equals(of_zeros.drop(columns=changing))


def test_val_maps_that_are_not_finite_are_counted_in_a_line_of_their_own(tmp_path, capsys):
    folder, validation = write_maps(tmp_path / "test"), tmp_path / "validation"
    (write_maps(tmp_path / "other")).rename(validation)
    text = (validation / "boxes.csv").read_text()
    for number in range(COUNT):
        (validation / f"maps/{number}.npy").rename(validation / f"maps/h{number}.npy")
        text = text.replace(f"\n{number},", f"\nh{number},")
    (validation / "boxes.csv").write_text(text)
    np.save(validation / "maps/h3.npy", np.full((3, 4), np.nan))
    rows = evaluated(folder, validation)
    assert rows["non_finite_maps"].tolist() == [0] * len(rows)
    assert "validation" in set(rows["threshold_rule"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"maps of {where / 'maps'}, 6/6" for where in (folder, validation)]
    assert lines[2].startswith("Note: 1 of 6 validation maps hold NaN or infinite")


def test_a_box_that_stands_twice_changes_no_score(tmp_path):
    """Official files hold some; scores take the best overlap with a box, or the boxes' union."""
    once, twice = write_maps(tmp_path / "once"), write_maps(tmp_path / "twice")
    text = (twice / "boxes.csv").read_text()
    (twice / "boxes.csv").write_text(text + text.splitlines()[3] + "\n")
    assert [len(own) for own in read_annotations(twice / "boxes.csv").boxes] == [1, 1, 2, 1, 1, 1]
    for name in ("infocam", "wsol", "infocam-legacy"):
        rows = [evaluated(folder, name=name).drop(columns="run") for folder in (once, twice)]
        assert rows[0].equals(rows[1])


def test_what_is_held_in_memory_at_once_changes_no_curve(tmp_path, monkeypatch):
    folder = write_maps(tmp_path / "maps")
    given = folder / "maps", read_annotations(folder / "boxes.csv"), PROTOCOLS["infocam"]
    whole, _ = saved_curves(*given, normalisation="minmax", workers=None)
    for name in ("BATCH", "BATCH_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(saved_maps, name, 1)
            parts, _ = saved_curves(*given, normalisation="minmax", workers=None)
        assert np.array_equal(parts.any_contour, whole.any_contour)
        assert np.array_equal(parts.energy, whole.energy)


def test_an_image_too_large_for_the_memory_is_one_line_before_the_work(tmp_path, monkeypatch):
    folder = write_maps(tmp_path / "maps", size="65535,2000")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("", (), {"available": 10**9}))
    monkeypatch.setattr(saved_maps, "read_map", lambda *_: pytest.fail("a map was read"))
    with pytest.raises(UserError) as error:
        evaluated(folder)
    assert str(error.value) == (
        "an image of 131070000 pixels: needs 3.4 GB of memory, 1.0 GB are available; use "
        "--protocol wsol, which scores 224 x 224 pixels"
    )


def test_a_missing_map_and_a_wrong_rank_are_named_before_the_work(tmp_path, monkeypatch):
    folder = write_maps(tmp_path / "maps")
    monkeypatch.setattr(saved_maps, "saved_curves", lambda *_, **__: pytest.fail("it began"))
    (folder / "maps/5.npy").rename(tmp_path / "5.npy")
    with pytest.raises(UserError, match=r"maps/5\.npy: no map of the annotated image 5$"):
        evaluated(folder)
    (tmp_path / "5.npy").rename(folder / "maps/5.npy")
    (folder / "maps/predictions.csv").write_text("image,rank\n0,x\n")
    with pytest.raises(UserError, match=r"line 2: rank 'x' is not a whole number"):
        evaluated(folder)
    with pytest.raises(UserError, match="image 0 is in the test and in the validation set"):
        evaluated(folder, folder)


def with_header(shape: str) -> bytes:
    """A file of 12 doubles whose header claims another shape."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(-(-(len(head) + 11) // 64) * 64 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(96)


HEADERS = [
    "(1000000000, 10)",
    f"(3, {2**70})",
    "(-3, 4)",
    "(3, 2)",  # half of the file would be left over
    "(3, True)",
    "(" * 500,
    "-" * 5000 + "1",
]


@pytest.mark.parametrize("shape", HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_the_file_does_not_keep_is_one_line_and_no_memory(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(with_header("(3, 4)"))
    assert read_map(tmp_path, "a").tolist() == [[0.0] * 4] * 3
    (tmp_path / "a.npy").write_bytes(with_header(shape))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"/a\.npy: not a NumPy array \(\w+Error\)$"):
            read_map(tmp_path, "a")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
