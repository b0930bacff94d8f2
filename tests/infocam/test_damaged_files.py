"""Whatever bytes a file holds, its reader returns valid values or says in one line what is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from infocam.data.annotations import read_annotations
from infocam.data.box_files import boxed_folder
from infocam.data.masks import read_mask
from infocam.data.wsol_metadata import FILES, read_wsol_split
from infocam.scoring.saved_maps import read_map, read_ranks
from mi_common.annotation_lines import MAX_PIXELS, MAX_SIDE
from mi_common.errors import UserError

few = settings(max_examples=60)
ODD = ["", " 5", "-1", "+3", "1_0", "²", "٣", "1e3", "nan", "0x1", str(2**31 - 1), str(2**63)]
ODD += ["9" * 5000, "é", "\0", "\r", '"', "a\u2028b", "..", "/", "x" * 300, "\ufeff", "a.png" * 60]


def lines_of(*good: str):
    """Files of lines that were good, some of them with one cell exchanged for an odd one."""
    odd = st.sampled_from(ODD) | st.text(max_size=4)

    def exchange(line: str, place: int, cell: str) -> str:
        cells = line.split(",")
        cells[place % len(cells)] = cell
        return ",".join(cells)

    line = st.sampled_from(good)
    line = line | st.builds(exchange, line, st.integers(0, 8), odd) | odd
    text = st.lists(line, max_size=5).map("\n".join).map(lambda text: text.encode())
    return text | st.binary(max_size=60)


def attempt(read: Callable, *args):
    """What a reader returns; None after an error that is one line that can be shown."""
    try:
        return read(*args)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        str(error).encode()
        return None


def check_boxes(sizes: np.ndarray, boxes: list[np.ndarray], beyond: int) -> None:
    assert (sizes >= 1).all() and (sizes <= MAX_SIDE).all()
    assert (sizes.prod(axis=1) <= MAX_PIXELS).all()
    for (width, height), own in zip(sizes.tolist(), boxes, strict=True):
        assert own.dtype == np.int64 and own.shape[1:] == (4,)
        assert (own >= 0).all() and (own[:, :2] <= own[:, 2:]).all()
        assert (own[:, :2] < (width, height)).all()
        assert (own[:, 2:] <= np.minimum(MAX_SIDE, (width - 1 + beyond, height - 1 + beyond))).all()


HEADER = b"image,width,height,x0,y0,x1,y1,label\n"


@few
@given(lines_of("a/1.jpg,9,8,1,2,3,4,0", "a/1.jpg,9,8,0,0,8,7,0", "b,5,5,4,4,4,4,3"))
@example(b"a/1.jpg,9,8,1,2,30,4,0\nb,5,5,4,4,4,4,3")
def test_annotations(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for head in (HEADER, b""):
        path.write_bytes(head + content)
        found = attempt(read_annotations, path)
        if found is not None:
            assert len(found.names) == len(set(found.names)) == len(found.boxes) > 0
            assert found.labels.min() >= 0 and found.labels.max() < 10**6
            check_boxes(found.sizes, found.boxes, MAX_SIDE)


GOOD = {
    "image_ids.txt": ("a/1.jpg", "b.jpg"),
    "class_labels.txt": ("a/1.jpg,0", "b.jpg,3"),
    "image_sizes.txt": ("a/1.jpg,9,8", "b.jpg,5,5"),
    "localization.txt": ("a/1.jpg,0,0,9,8", "b.jpg,1,1,2,2", "b.jpg,0,0,4,4"),
}


@few
@given(st.data(), st.sampled_from(FILES), st.booleans())
def test_wsol_metadata(tmp_path_factory, data, damaged, weak):
    folder = tmp_path_factory.getbasetemp() / "split"
    folder.mkdir(exist_ok=True)
    for name, lines in GOOD.items():
        (folder / name).write_text("\n".join(lines))
    (folder / damaged).write_bytes(data.draw(lines_of(*GOOD[damaged])))
    found = attempt(lambda: read_wsol_split(folder, weak=weak))
    if found is not None:
        assert len(found.image_ids) == len(set(found.image_ids)) == len(found.boxes) > 0
        assert found.labels.shape == (len(found.image_ids),)
        assert found.labels.min() >= 0 and found.labels.max() < 10**6
        check_boxes(found.sizes, found.boxes, 1)
        assert weak or all(len(own) for own in found.boxes)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("train/cat/1.png", "test/cat/1.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (9, 8)).save(folder / name)
    return folder


@few
@given(content=lines_of("test/cat/1.png,1,2,3,4", "train/cat/1.png,0,0,8,7"))
@example(content=b"test/cat/1.png,1,2,3,4")
def test_boxes_of_a_folder(pictures, content):
    for head in (b"image,x0,y0,x1,y1\n", b""):
        (pictures / "boxes.csv").write_bytes(head + content)
        found = attempt(boxed_folder, pictures)
        if found is not None:
            assert len(found["test"].boxes[0]) > 0
            for part in found.values():
                check_boxes(np.array([[9, 8]]), part.boxes, 0)


@few
@given(lines_of("a,0", "b,7", "c,1"))
@example(b"a,0\nb,7")
def test_ranks(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    for head in (b"image,rank\n", b""):
        (folder / "predictions.csv").write_bytes(head + content)
        ranks = attempt(read_ranks, folder, ["a", "b"])
        assert ranks is None or (ranks.shape == (2,) and ranks.min() >= 0 and ranks.max() < 10**6)


def changed(content: bytes):
    """The bytes with some of them exchanged, or cut; or any other bytes."""

    def exchange(pairs: list[tuple[int, int]], length: int) -> bytes:
        array = bytearray(content)
        for place, value in pairs:
            array[place] = value
        return bytes(array[:length])

    pair = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    lengths = st.just(len(content)) | st.integers(0, len(content))
    return st.builds(exchange, st.lists(pair, max_size=3), lengths) | st.binary(max_size=200)


def saved(write: Callable[[Path], object], path: Path) -> bytes:
    write(path)
    return path.read_bytes()


@few
@given(data=st.data())
def test_maps(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    content = saved(lambda path: np.save(path, np.ones((3, 4), np.float32)), folder / "a.npy")
    (folder / "a.npy").write_bytes(data.draw(changed(content)))
    values = attempt(read_map, folder, "a")
    assert values is None or (values.ndim == 2 and values.size > 0 and values.dtype.kind in "fiub")


@settings(max_examples=50)
@given(data=st.data(), ending=st.sampled_from(["png", "bmp", "tif", "gif", "webp", "jpg"]))
@pytest.mark.filterwarnings("ignore")
def test_masks(tmp_path_factory, data, ending):
    path = tmp_path_factory.getbasetemp() / f"mask.{ending}"
    image = Image.fromarray(np.array([[0, 255, 0]] * 5, np.uint8))
    path.write_bytes(data.draw(changed(saved(image.save, path))))
    mask = attempt(read_mask, path, 3, 5)
    assert mask is None or (mask.shape == (5, 3) and np.isin(mask, (0, 1, 255)).all())
