"""Readers of data sets that are image files, with their boxes; no image is opened here.

tiny-imagenet-200/   CUB_200_2011/      as `python -m scripts.download_data NAME` leaves them
train/CLASS/*   test/CLASS/*            a folder of your own, given as the data folder
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mi_common.annotation_lines import MAX_SIDE, annotation_lines, parse_box, parse_size
from mi_common.errors import UserError, require
from mi_common.image_sets import ImageSet
from mi_common.pictures import EXTENSIONS


def tiny_imagenet(data_dir: Path, split: str) -> ImageSet:
    """Tiny-ImageNet with one box an image: 200 classes, 64 x 64 pixels.

    The annotation holds inclusive corners x0 y0 x1 y1 in 0..63. Training images come in order of
    class and number. The test labels are not published: the split "test" holds the official
    validation images, in the order of `val_annotations.txt`.

    UserError for missing files, a class without training images or not in wnids.txt, an impossible
    box, or a class or an image that stands in a file twice.
    """
    root = Path(data_dir) / "tiny-imagenet-200"

    def rows(path: Path) -> list[tuple[str, list[str]]]:
        """The place and the tab-separated fields of each line that is not empty."""
        require(path, "tiny-imagenet", data_dir)
        return [(place, line.split("\t")) for place, line in annotation_lines(path)]

    wnids = [fields[0] for _, fields in rows(root / "wnids.txt")]
    words = {fields[0]: fields[-1] for _, fields in rows(root / "words.txt")}
    class_of = {wnid: k for k, wnid in enumerate(wnids)}
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    entries = []  # place, image, class, box fields
    for wnid in wnids if split == "train" else ():
        folder = root / "train" / wnid
        for place, (file, *box) in rows(folder / f"{wnid}_boxes.txt"):
            entries.append((place, folder / "images" / file, wnid, box))
    for place, fields in rows(root / "val/val_annotations.txt") if split == "test" else ():
        file, wnid, *box = [*fields, ""]
        entries.append((place, root / "val/images" / file, wnid, box[:-1]))
    if len(class_of) < len(wnids):
        raise UserError(f"{root / 'wnids.txt'}: a class stands there twice")
    first: dict[Path, str] = {}
    for place, path, wnid, _ in entries:
        if wnid not in class_of:
            raise UserError(f"{place}: class {wnid!r} is not in wnids.txt")
        if first.setdefault(path, place) != place:
            raise UserError(f"{place}: a second line for {path.name}; keep one")
    if not entries:
        raise UserError(f"{root}: no images are listed for the split {split}")
    if split == "train" and (lacking := class_of.keys() - {wnid for _, _, wnid, _ in entries}):
        raise UserError(f"{root}/train/{min(lacking)}: no images of this class")
    return ImageSet(
        "tiny-imagenet",
        [path for _, path, _, _ in entries],
        torch.tensor([class_of[wnid] for _, _, wnid, _ in entries], dtype=torch.int64),
        names,
        [parse_box(box, place, width=64, height=64)[None] for place, _, _, box in entries],
        np.full((len(entries), 2), 64),
    )


def cub(data_dir: Path, split: str) -> ImageSet:
    """CUB-200-2011 (Wah et al. 2011) with one box an image, in the order of `images.txt`.

    Labels are the class ids of `classes.txt` less one: 0..199. The annotation of a box is x, y,
    width and height in pixels. A box that touches the far border has x + width = image width - 1
    ten times as often as x + width = image width, so the width is the distance between inclusive
    corners: they are x, y, x + width and y + height, rounded to the nearest whole number (the
    official file has no fractions). Choe et al. (2020) read it so too. 78 boxes end outside their
    image and are not cut. Sizes are those of `image_sizes.txt`, "id width height", where that file
    is there; the official archive has none.

    `split` is "train" (5,994 images) or "test" (5,794).

    UserError for a missing file, a line that does not parse, or ids that are not 1, 2, 3, ... up to
    the same number in every file about images.
    """
    is_training = {"train": 1, "test": 0}[split]
    root = Path(data_dir) / "CUB_200_2011"

    def column(file: str, parse: Callable[[str], Any], what: str, last: int | None = None) -> list:
        """`parse` of each line without its id; its ValueError becomes a UserError: "not `what`"."""
        require(root / file, "cub", data_dir)
        values = []
        for place, line in annotation_lines(root / file):
            identity, text = [*line.strip().split(maxsplit=1), ""][:2]
            if identity != str(len(values) + 1):
                raise UserError(f"{place}: id {identity!r} instead of {len(values) + 1}")
            try:
                values.append(parse(text))
            except ValueError as error:
                raise UserError(f"{place}: {text!r} is not {what}") from error
        if last not in (None, len(values)):
            raise UserError(f"{root / file}: ends with id {len(values)}, images.txt with {last}")
        return values

    names = column("classes.txt", _not_empty, "a class name")
    ids, class_id = range(1, len(names) + 1), f"a class id 1..{len(names)}"
    paths = column("images.txt", lambda text: root / "images" / _not_empty(text), "a file name")
    n = len(paths)
    labels = column("image_class_labels.txt", lambda text: ids.index(int(text)), class_id, n)
    training = column("train_test_split.txt", lambda text: range(2).index(int(text)), "0 or 1", n)
    corners = column("bounding_boxes.txt", _corners, "a box x y width height", n)
    boxes = list(np.array(corners, dtype=np.int64).reshape(-1, 1, 4))
    sizes = None
    if (root / "image_sizes.txt").exists():
        sizes = np.array(column("image_sizes.txt", _size, "width and height", n)).reshape(-1, 2)
    files = ImageSet("cub", paths, torch.tensor(labels, dtype=torch.int64), names, boxes, sizes)
    return files.select((torch.tensor(training) == is_training).nonzero().flatten())


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _corners(text: str) -> list[int]:
    """Inclusive corners of "x y width height"; ValueError if it is not such a text."""
    x, y, width, height = map(float, text.split())
    if not (min(x, y) >= 0 and min(width, height) > 0 and max(x + width, y + height) <= MAX_SIDE):
        raise ValueError(text)
    return [round(x), round(y), round(x + width), round(y + height)]


def _size(text: str) -> list[int]:
    width, height = text.split()
    return list(parse_size(width, height, text))


def image_folder(
    data_dir: Path,
    split: str,
    *,
    required: tuple[str, ...] = ("train", "test"),
    untested_classes: bool = False,
) -> ImageSet:
    """A folder of your own pictures: `data_dir/train/CLASS/*` and `data_dir/test/CLASS/*`.

    The splits that are `required` must be there, with the same classes. With `untested_classes`,
    classes may have training images alone.

    Classes are sorted by name and the images of each class too. Images are the files that end in
    .bmp, .gif (the first frame), .jpeg, .jpg, .png, .tif, .tiff or .webp, in any case; other files
    and hidden ones are left out.

    UserError for a missing folder, no classes, a class without images, or a class that only one of
    the two splits has.
    """
    for name in required:
        if not (Path(data_dir) / name).is_dir():
            wanted = " and ".join(f"{name}/CLASS" for name in required)
            few = "; a few test images suffice" if untested_classes else ""
            raise UserError(f"no folder {Path(data_dir) / name}; put the images into {wanted}{few}")
    names = {name: _class_names(Path(data_dir) / name) for name in required}
    pairs = [("test", "train")] if untested_classes else itertools.permutations(required, 2)
    for one, other in pairs:
        if alone := sorted(set(names[one]) - set(names[other])):
            raise UserError(f"{data_dir}: classes in {one} but not in {other}: {', '.join(alone)}")
    paths, labels = [], []
    for k, name in enumerate(names[required[0]]):
        folder = Path(data_dir) / split / name
        files = [path for path in _files(folder) if path.suffix.lower() in EXTENSIONS]
        if not files and not (untested_classes and split == "test"):
            raise UserError(f"{folder}: no images; use files that end in {' '.join(EXTENSIONS)}")
        paths += files
        labels += [k] * len(files)
    return ImageSet("folder", paths, torch.tensor(labels, dtype=torch.int64), names[required[0]])


def other_files(data_dir: Path) -> list[Path]:
    """The files in the class folders that `image_folder` takes for no images."""
    splits = [path for path in (Path(data_dir) / "train", Path(data_dir) / "test") if path.is_dir()]
    folders = [path for split in splits for path in _visible(split)]
    files = (path for folder in folders for path in _files(folder))
    return [path for path in files if path.suffix.lower() not in EXTENSIONS]


def _files(folder: Path) -> list[Path]:
    """The files in a folder without hidden ones, sorted by name; none without a folder."""
    return [path for path in _visible(folder) if path.is_file()] if folder.is_dir() else []


def _class_names(folder: Path) -> list[str]:
    names = [path.name for path in _visible(folder) if path.is_dir()]
    if not names:
        raise UserError(f"{folder}: no class folders; want the images of each class in CLASS/")
    for name in names:
        if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise UserError(f"{folder}: the class folder {name!r} has a name that is not UTF-8")
    return names


def _visible(folder: Path) -> list[Path]:
    """The content of a folder without hidden names, sorted by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
