"""Attacks on the official data sets' lists: CUB-200-2011 and Tiny-ImageNet."""

import io
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mi_common.image_files import cub, tiny_imagenet
from mi_common.image_sets import ImageSet
from mi_common.pictures import read_image
from tests.trust.cases import Answer, Case, Kind, pick
from tests.trust.lines import NO_NUMBERS, Lines, attack_lines, draw_boxes, same_boxes


def cub_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    """CUB-200-2011's five files."""
    root = folder / "in"
    base = root / "CUB_200_2011"
    names, n = ["001.Owl", "002.Cat"], int(rng.integers(4, 9))
    labels, training = [i % 2 for i in range(n)], [i % 3 > 0 for i in range(n)]
    paths = [f"{names[k]}/b_{i}.jpg" for i, k in enumerate(labels)]
    boxes = draw_boxes(rng, n, 60, 40) + np.array([0, 0, 1, 1])  # with an extent
    ids = {0: ("0", "99", "x", "")}
    values = {
        "classes": ([[name] for name in names], ("",)),
        "images": ([[path] for path in paths], ("",)),
        "image_class_labels": (
            [[str(k + 1)] for k in labels],
            ("0", "3", "-1", "x", "", "1.5", "2147483648"),
        ),
        "train_test_split": ([[str(int(t))] for t in training], ("2", "-1", "x", "", "0.5")),
        "bounding_boxes": (
            [[f"{v}.0" for v in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in boxes.tolist()],
            ("", "abc", "nan", "inf", "-3", "1e400", "1,5"),
        ),
    }
    files = {}
    for name, (rows, wrong) in values.items():
        lines = [[str(i), *row] for i, row in enumerate(rows, 1)]
        columns = ids | dict.fromkeys(range(1, len(lines[0])), wrong)
        files[name] = Lines(base / f"{name}.txt", lines, " ", columns)
    # A name may hold blanks and digits.
    files["classes"].free = files["images"].free = ("line", "beyond")
    files["bounding_boxes"].free = ("beyond",)
    part = pick(rng, ("train", "test"))
    own = [i for i in range(n) if training[i] == (part == "train")]

    def right(answer: Answer) -> bool:
        found = answer.value
        there = [path.relative_to(base / "images").as_posix() for path in found.images]
        return (
            there == [paths[i] for i in own]
            and found.class_names == names
            and found.labels.tolist() == [labels[i] for i in own]
            and same_boxes([boxes[i] for i in own], found.boxes)
        )

    chosen = files[pick(rng, files)]
    return attack_lines(rng, list(files.values()), chosen, partial(cub, root, part), right, root)


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = _picture()


def opened(root: Path, split: str) -> ImageSet:
    """The list of Tiny-ImageNet's pictures, each of which can be opened."""
    files = tiny_imagenet(root, split)
    for path in files.images:
        read_image(path)
    return files


def tiny_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    """Tiny-ImageNet's lists, and that their pictures are there."""
    root, wnids = folder / "in", ["n02", "n01", "n03"]
    base = root / "tiny-imagenet-200"
    corners = dict.fromkeys(range(-4, 0), (*NO_NUMBERS, "64"))
    truth = {"train": [], "test": []}  # path, class, box
    for wnid in wnids:
        for i, box in enumerate(draw_boxes(rng, 3, 64, 64)):
            truth["train"].append((base / f"train/{wnid}/images/{wnid}_{i}.JPEG", wnid, box))
    for i, box in enumerate(draw_boxes(rng, 5, 64, 64)):
        truth["test"].append((base / f"val/images/val_{i}.JPEG", wnids[i % 3], box))
    files = {
        "wnids": Lines(base / "wnids.txt", [[w] for w in wnids], "\t", {0: ("n99",)}),
        "words": Lines(base / "words.txt", [[w, f"word {w}, other"] for w in wnids], "\t"),
    }
    for wnid in wnids:
        rows = [[p.name, *map(str, box)] for p, own, box in truth["train"] if own == wnid]
        files[wnid] = Lines(base / f"train/{wnid}/{wnid}_boxes.txt", rows, "\t", corners)
    rows = [[path.name, wnid, *map(str, box)] for path, wnid, box in truth["test"]]
    lines = base / "val/val_annotations.txt"
    files["val"] = Lines(lines, rows, "\t", corners | {1: ("n99", "")})
    for path, _, _ in truth["train"] + truth["test"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    split = pick(rng, ("train", "test"))
    if split == "test":  # which has no picture of a class that is not there
        files["wnids"].free = ("field", "line", "beyond")

    def right(answer: Answer) -> bool:
        found = answer.value
        return (
            found.images == [path for path, _, _ in truth[split]]
            and found.labels.tolist() == [wnids.index(wnid) for _, wnid, _ in truth[split]]
            and found.class_names == [f"word {wnid}" for wnid in wnids]
            and same_boxes([box for _, _, box in truth[split]], found.boxes)
        )

    chosen = files[pick(rng, ("wnids", "val") if split == "test" else ("wnids", *wnids))]
    act = partial(opened, root, split)
    return attack_lines(rng, list(files.values()), chosen, act, right, root)


KINDS = {
    "CUB annotations": Kind(cub_case, share=2),
    "Tiny-ImageNet annotations": Kind(tiny_case, share=2),
}
