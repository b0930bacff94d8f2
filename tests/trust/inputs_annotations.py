"""Attacks on boxes: of saved maps, of a folder of one's own, of the WSOL benchmark."""

from functools import partial
from pathlib import Path

import numpy as np

from infocam.data.annotations import read_annotations
from infocam.data.box_files import boxed_folder
from infocam.data.wsol_metadata import wsol_image_sets
from tests.trust.cases import Answer, Case, Kind, pick
from tests.trust.lines import NO_NUMBERS, Lines, attack_lines, draw_boxes, same_boxes


def annotations_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    """The CSV of saved maps."""
    n, width, height = int(rng.integers(3, 8)), int(rng.integers(5, 40)), int(rng.integers(5, 40))
    boxes, labels = draw_boxes(rng, n, width, height), rng.integers(0, 3, n).tolist()
    names = [f"d{i}/a,é {i}.jpg" if rng.random() < 0.3 else f"p{i}" for i in range(n)]
    rows = [["image", "width", "height", "x0", "y0", "x1", "y1", "label"]]
    for name, box, label in zip(names, boxes.tolist(), labels, strict=True):
        quoted = f'"{name}"' if "," in name else name
        rows.append([quoted, *map(str, (width, height, *box, label))])
    order = rng.permutation(8).tolist() if rng.random() < 0.3 else list(range(8))
    rows = [[row[i] for i in order] for row in rows]
    wrong = {order.index(i): NO_NUMBERS for i in range(1, 8)}
    # The same box twice is the same truth; a box may end outside of its image.
    free = ("twice", "beyond")
    file = Lines(folder / "in/boxes.csv", rows, ",", wrong, head=1, mark=True, free=free)

    def right(answer: Answer) -> bool:
        found = answer.value
        return (
            found.names == [name.removesuffix(".jpg") for name in names]
            and (found.sizes == [width, height]).all()
            and found.labels.tolist() == labels
            and same_boxes(list(boxes), found.boxes)
        )

    act = partial(read_annotations, file.path)
    return attack_lines(rng, [file], file, act, right, folder / "in")


def folder_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    """boxes.csv of a folder of one's own, read with its pictures."""
    root = shop.copy("pictures", folder / "in")
    rows = [line.split(",") for line in (root / "boxes.csv").read_text().splitlines()]
    boxes = {row[0]: [int(v) for v in row[1:]] for row in rows[1:]}
    wrong = dict.fromkeys(range(1, 5), (*NO_NUMBERS, "32"))
    wrong[0] = ("no/such.png", "", "/etc/x", "../in/test/cat/0.png")
    file = Lines(root / "boxes.csv", rows, ",", wrong, head=1, mark=True, free=("twice",))

    def right(answer: Answer) -> bool:
        return all(
            found.tolist() == [boxes[path.relative_to(root).as_posix()]]
            for files in answer.value.values()
            for path, found in zip(files.images, files.boxes, strict=True)
        )

    return attack_lines(rng, [file], file, partial(boxed_folder, root), right, root)


def wsol_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    """A data set in the benchmark's format: three splits, four files each."""
    root = folder / "in"
    files, truth = {}, {}
    side = (*NO_NUMBERS, "0")
    wrong = {
        "image_ids": {0: ("", "/abs.jpg", "../up.jpg", "no/such.jpg")},
        "class_labels": {0: ("no/such.jpg", ""), 1: NO_NUMBERS},
        "image_sizes": {0: ("no/such.jpg",), 1: side, 2: side},
        "localization": {0: ("no/such.jpg",), **dict.fromkeys(range(1, 5), (*NO_NUMBERS, "32"))},
    }
    for split, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        n = int(rng.integers(3, 6))
        ids = [f"{i % 3:03d}.c{i % 3}/{split}_{i}.jpg" for i in range(n)]
        boxes = draw_boxes(rng, n, 30, 20)
        rows = {
            "image_ids": [[i] for i in ids],
            "class_labels": [[i, str(k % 3)] for k, i in enumerate(ids)],
            "image_sizes": [[i, "30", "20"] for i in ids],
            "localization": [[i, *map(str, b)] for i, b in zip(ids, boxes.tolist(), strict=True)],
        }
        truth[part] = (ids, list(boxes))
        for name, lines in rows.items():
            # An image may have several boxes, and is as large as it is said to be.
            free = {"localization": ("twice",), "image_sizes": ("beyond",)}.get(name, ())
            if split == "train" and name in ("localization", "image_sizes"):
                free = (*free, "gone", "text") if name == "localization" else free
            path = root / "metadata/CUB" / split / f"{name}.txt"
            files[split, name] = Lines(path, lines, ",", wrong[name], free=free)

    def right(answer: Answer) -> bool:
        return all(
            [path.relative_to(root / "CUB").as_posix() for path in found.images] == truth[part][0]
            and found.labels.tolist() == [k % 3 for k in range(len(found.labels))]
            and same_boxes(truth[part][1], found.boxes)
            for part, found in answer.value.items()
        )

    chosen = files[pick(rng, files)]
    act = partial(wsol_image_sets, "cubv2", root)
    return attack_lines(rng, list(files.values()), chosen, act, right, root)


KINDS = {
    "boxes of saved maps": Kind(annotations_case, share=2),
    "boxes.csv": Kind(folder_case, ("pictures",), 2),
    "WSOL metadata": Kind(wsol_case, share=2),
}
