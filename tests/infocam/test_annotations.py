"""Annotation files on their own: written from any set and read back, and each wrong row named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infocam.data.annotations import Annotations, read_annotations, write_annotations
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet

TEXT = """image,width,height,x0,y0,x1,y1,label,mask
test/cat/1.jpg,120,80,10,4,99,63,3,masks/1.png
b.webp,5,6,4,5,4,5,0,masks/2.png
test/cat/1.jpg,120,80,119,79,119,79,3,masks/1.png
"""


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "masks").mkdir()
    for number in (1, 2):
        (tmp_path / f"masks/{number}.png").touch()
    (tmp_path / "boxes.csv").write_text(TEXT)
    return tmp_path / "boxes.csv"


def same(one: Annotations, other: Annotations) -> bool:
    boxes = zip(one.boxes, other.boxes, strict=True)
    return (
        (one.names, one.masks) == (other.names, other.masks)
        and np.array_equal(one.sizes, other.sizes)
        and np.array_equal(one.labels, other.labels)
        and all(np.array_equal(a, b) for a, b in boxes)
    )


def test_several_rows_of_an_image_are_its_boxes(file):
    found = read_annotations(file)
    assert found.names == ["test/cat/1", "b"]
    assert found.sizes.tolist() == [[120, 80], [5, 6]]
    assert [own.tolist() for own in found.boxes] == [
        [[10, 4, 99, 63], [119, 79, 119, 79]],
        [[4, 5, 4, 5]],
    ]
    assert found.labels.tolist() == [3, 0]
    assert found.masks == [file.parent / "masks/1.png", file.parent / "masks/2.png"]


def test_labels_and_masks_may_be_left_out_and_columns_stand_in_any_order(file):
    file.write_text("x0,y0,x1,y1,image,height,width\n1,2,3,4,a,9,8\n")
    found = read_annotations(file)
    assert (found.names, found.labels, found.masks) == (["a"], None, None)
    assert (found.sizes.tolist(), found.boxes[0].tolist()) == ([[8, 9]], [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.webp,5,6,1,1,1,1,0", "8 cells, not 9"),
        ("b.webp,5,0,1,1,1,1,0,masks/2.png", "height '0' is not a whole number from 1 to 65535"),
        ("b.webp,5,6,1,1,65536,1,0,masks/2.png", "box 1 1 65536 1 is not inside 0..4, 0..5"),
        ("b.webp,5,6,5,1,5,1,0,masks/2.png", "box 5 1 5 1 is not inside 0..4, 0..5"),
        ("b.webp,5,6,1,,2,1,0,masks/2.png", "['1', '', '2', '1'] are not four whole numbers"),
        ("b.webp,5,6,1,1,1,1,cat,masks/2.png", "label 'cat' is not a whole number from 0"),
        ("b.webp,5,6,1,1,1,1,0,\0", r"no mask {}/\x00; give every image one, or drop the column"),
        (f"b.webp,5,6,1,1,1,1,0,{'m' * 300}", f"no mask {{}}/{'m' * 100}...; give every image"),
        ("b.webp,5,6,1,1,1,1,0,", "no mask {}; give every image one, or drop the column"),
        (f"{'b' * 256},5,6,1,1,1,1,0,masks/2.png", f"'{'b' * 100}...' is not a path such as"),
        ("../b.webp,5,6,1,1,2,1,0,masks/2.png", "'../b.webp' is not a path such as CLASS/1.jpg"),
        ("b\x01.webp,5,6,1,1,2,1,0,masks/2.png", r"'b\x01.webp' is not a path such as"),
        (",5,6,1,1,2,1,0,masks/2.png", "'' is not a path such as CLASS/1.jpg"),
        (
            "test/cat/1.jpg,120,81,1,1,2,1,3,masks/1.png",
            "120 81 3 {}/masks/1.png for test/cat/1.jpg, before 120 80 3 {}/masks/1.p",
        ),
        ("test/cat/1.jpg,120,80,1,1,2,1,4,masks/1.png", "120 80 4 "),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(file, row, message):
    lines = TEXT.splitlines()
    file.write_text("\n".join([*lines[:2], "", row]))
    with pytest.raises(UserError) as error:
        read_annotations(file)
    wanted = message.replace("{}", str(file.parent))
    assert str(error.value).startswith(f"{file}, line 4: {wanted}")
    assert len(str(error.value).splitlines()) == 1


def test_a_file_without_images_or_with_other_columns_or_none_at_all_is_refused(file):
    want = "want the columns image,width,height,x0,y0,x1,y1 and maybe label,mask"
    for text, message in (
        (TEXT.splitlines()[0], f"{file}: no images"),
        ("image,x0,y0,x1,y1\n", f"{file}, line 1: columns image,x0,y0,x1,y1; {want}"),
        ("", f"{file}, line 1: columns ; {want}"),
    ):
        file.write_text(text)
        with pytest.raises(UserError) as error:
            read_annotations(file)
        assert str(error.value) == message
    file.unlink()
    with pytest.raises(UserError) as error:
        read_annotations(file)
    assert str(error.value) == f"no file {file}; {want}"


def test_images_that_would_share_a_map_file_are_refused(file):
    file.write_text(TEXT + "b.jpg,5,6,1,1,1,1,0,masks/2.png\n")
    with pytest.raises(UserError, match=r"^b\.webp and b\.jpg: the same name but for the ending"):
        read_annotations(file)


def test_a_folder_of_the_benchmark_is_read(tmp_path):
    for name, text in {
        "image_ids.txt": "val2/0/a.jpeg\nval2/1/b.jpeg\n",
        "class_labels.txt": "val2/0/a.jpeg,0\nval2/1/b.jpeg,1\n",
        "image_sizes.txt": "val2/0/a.jpeg,50,40\nval2/1/b.jpeg,30,20\n",
        "localization.txt": "val2/1/b.jpeg,1,2,3,4\nval2/0/a.jpeg,5,6,7,8\nval2/1/b.jpeg,0,0,9,9\n",
    }.items():
        (tmp_path / name).write_text(text)
    boxes = [np.array([[5, 6, 7, 8]]), np.array([[1, 2, 3, 4], [0, 0, 9, 9]])]
    sizes, labels = np.array([[50, 40], [30, 20]]), np.array([0, 1])
    wanted = Annotations(["val2/0/a", "val2/1/b"], sizes, boxes, labels)
    assert same(read_annotations(tmp_path), wanted)
    (tmp_path / "localization.txt").unlink()  # which a split to train on may lack, but not this
    with pytest.raises(UserError, match=r"^no file .*localization\.txt; want"):
        read_annotations(tmp_path)


def localisation_set(masks: list[Path] | None) -> ImageSet:
    """Names that CSV has to quote, several boxes, and one that ends outside its image."""
    return ImageSet(
        name="any",
        images=torch.zeros(3, 1, 6, 5, dtype=torch.uint8),
        labels=torch.tensor([2, 0, 1]),
        boxes=[
            np.array([[0, 0, 4, 5], [1, 1, 1, 1]]),
            np.array([[3, 2, 9, 99]]),
            np.array([[0, 0, 0, 0]]),
        ],
        class_names=["a", "b", "c"],
        sizes=np.array([[5, 6], [5, 6], [700, 800]]),
        image_names=["a, b/c", 'the "d" é', "f.v2"],
        mask_files=masks,
    )


@pytest.mark.parametrize("kind", ["none", "absolute", "relative"])
def test_what_was_written_reads_back_the_same(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    folder = {"none": None, "absolute": tmp_path / "data/masks", "relative": Path("data/masks")}[
        kind
    ]
    masks = folder and [folder / f"{number}.png" for number in range(3)]
    for path in masks or ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    data = localisation_set(masks)
    file = (tmp_path if kind == "absolute" else Path()) / "runs/deep/boxes.csv"
    write_annotations(file, data)
    wanted = Annotations(data.image_names, data.sizes, data.boxes, data.labels.numpy(), masks)
    assert same(read_annotations(file), wanted)
    assert [path.name for path in file.parent.iterdir()] == ["boxes.csv"]
    lines = file.read_text().splitlines()
    assert lines[1] == '"a, b/c",5,6,0,0,4,5,2' + (",../../data/masks/0.png" if masks else "")
    assert len(lines) == 5


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "caf\udce9"])
def test_a_name_that_would_not_read_back_is_not_written(tmp_path, name):
    data, unboxed = localisation_set(None), localisation_set(None)
    data.image_names[1], unboxed.boxes[2] = name, np.zeros((0, 4), int)
    for images, message in ((data, "rename it"), (unboxed, "no box of f.v2 to write")):
        with pytest.raises(UserError, match=rf"boxes\.csv: .*{message}"):
            write_annotations(tmp_path / "boxes.csv", images)
    assert list(tmp_path.iterdir()) == []
