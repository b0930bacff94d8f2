"""Metadata of the benchmark of weakly supervised object localisation (Choe et al. 2020).

Each split is a folder of four text files with a line per image, or per box:

    image_ids.txt      PATH                     class_labels.txt   PATH,LABEL
    image_sizes.txt    PATH,WIDTH,HEIGHT        localization.txt   PATH,X0,Y0,X1,Y1

PATH is relative to the folder of the images. Corners are whole, inclusive pixels. The splits of CUB
are in DATA/metadata/CUB/{train,val,test}, its images in DATA/CUB.

OpenImages has masks in place of boxes, in the folder of the images: a line PATH,MASK,IGNORED for
each object. IGNORED is the mask of what is not scored, or empty, and stands on one line of an
image. It has no image_sizes.txt: sizes are read from the images.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from infocam.data.box_files import NO_BOXES, Annotations
from infocam.data.masks import InstanceMasks
from mi_common.annotation_lines import (
    CONTROL,
    annotation_lines,
    brief,
    parse_box,
    parse_label,
    parse_size,
    place_of,
)
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet

OPENIMAGES = "openimages30k"
WSOL_FOLDERS = {"cubv2": "CUB", "ilsvrc": "ILSVRC", OPENIMAGES: "OpenImages"}
FOLDER_OF_SPLIT = {"train": "train", "validation": "val", "test": "test"}
LONGEST_NAME = 255  # bytes of a file's name, on all common file systems
FILES = ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt")


def read_wsol_split(folder: Path, *, boxes_optional: bool = False) -> Annotations:
    """The annotations of a split in the order of image_ids.txt, whose paths are the names.

    No image is opened. With `boxes_optional`, for training by labels alone, images may lack boxes
    (M is 0), and the file of boxes, or the files of boxes and of sizes, may be missing.

    UserError for a missing file or image, an invalid line, a second line for an image, or a box
    that starts outside its image or ends more than a pixel beyond it. One pixel beyond is allowed,
    because some boxes were annotated with x1 = x0 + width.
    """
    ids = _image_ids(_file(folder, "image_ids.txt"))
    index_of = {image: i for i, image in enumerate(ids)}
    labels = _value_per_image(folder, "class_labels.txt", index_of, "PATH,LABEL", parse_label)
    sized, boxed = (not boxes_optional or (folder / file).exists() for file in FILES[2:])
    if not (sized or boxed):
        return Annotations(ids, None, [NO_BOXES] * len(ids), labels)
    sizes = _value_per_image(folder, "image_sizes.txt", index_of, "PATH,WIDTH,HEIGHT", parse_size)
    boxes: dict[int, list] = {}
    if boxed:
        for place, i, fields in _rows(folder, "localization.txt", index_of, "PATH,X0,Y0,X1,Y1"):
            width, height = sizes[i].tolist()
            box = parse_box(fields, place, width=width, height=height, beyond=1)
            boxes.setdefault(i, []).append(box)
    if not boxes_optional:
        _require_all(folder, "localization.txt", index_of, boxes)
    stacked = [np.stack(boxes[i]) if i in boxes else NO_BOXES for i in index_of.values()]
    return Annotations(ids, sizes, stacked, labels)


def is_mask_split(folder: Path) -> bool:
    """Whether the first line of localization.txt names masks."""
    lines = annotation_lines(_file(folder, "localization.txt"))
    fields = next((line.strip().rsplit(",", 2)[1:] for _, line in lines), [])
    return len(fields) == 2 and all(not field or field.endswith(".png") for field in fields)


def read_mask_split(folder: Path, root: Path, *, masks_optional: bool = False) -> Annotations:
    """The annotations of a split of OpenImages in the order of image_ids.txt.

    `root` is the folder of images and masks. No file there is opened: the sizes, unless there is an
    image_sizes.txt, and the boxes are None. With `masks_optional`, for training by labels alone,
    localization.txt is not read, the images have no boxes (M is 0) and no masks.

    UserError for a missing file or mask, an invalid line, an image without a mask, or with two
    masks of what is not scored.
    """
    ids = _image_ids(_file(folder, "image_ids.txt"))
    index_of = {image: i for i, image in enumerate(ids)}
    labels = _value_per_image(folder, "class_labels.txt", index_of, "PATH,LABEL", parse_label)
    sizes = None
    if (folder / "image_sizes.txt").exists():
        line_format = "PATH,WIDTH,HEIGHT"
        sizes = _value_per_image(folder, "image_sizes.txt", index_of, line_format, parse_size)
    if masks_optional:
        return Annotations(ids, sizes, [NO_BOXES] * len(ids), labels)
    objects: dict[int, list[Path]] = {}
    ignored: dict[int, Path] = {}
    for place, i, fields in _rows(folder, "localization.txt", index_of, "PATH,MASK,IGNORED"):
        mask, region = (_mask_file(root, field.strip(), place) for field in fields)
        if mask is None:
            raise UserError(f"{place}: no mask; want PATH,MASK,IGNORED")
        objects.setdefault(i, []).append(mask)
        if region is not None and ignored.setdefault(i, region) != region:
            raise UserError(f"{place}: a second mask of what is not scored; keep one")
    _require_all(folder, "localization.txt", index_of, objects)
    masks = [InstanceMasks(tuple(objects[i]), ignored.get(i)) for i in index_of.values()]
    return Annotations(ids, sizes, None, labels, masks)


def _mask_file(root: Path, name: str, place: str) -> Path | None:
    if not name:
        return None
    if not os.path.isfile(root / inner_path(name, place)):
        raise UserError(f"{place}: no mask {root / brief(name)}")
    return root / name


def _file(folder: Path, name: str) -> Path:
    if not os.path.isfile(folder / name):  # False for too long a name, where Path.is_file fails
        raise UserError(f"no file {folder / name}; want {', '.join(FILES)} of a split")
    return folder / name


def inner_path(text: str, place: str) -> str:
    """The text if it is a valid relative path inside a folder; else UserError.

    Empty parts, `.` and `..` are refused, so that an image has one name only; so are control
    characters.
    """
    for part in text.split("/"):
        good = part not in ("", ".", "..") and not CONTROL.search(part)
        if not good or len(part.encode()) > LONGEST_NAME:
            raise UserError(f"{place}: '{brief(text)}' is not a path such as CLASS/1.jpg")
    return text


def _image_ids(path: Path) -> list[str]:
    ids: dict[str, None] = {}
    for place, line in annotation_lines(path):
        image = inner_path(line.strip(), place)
        if image in ids:
            raise UserError(f"{place}: image '{brief(image)}' for the second time; keep one")
        ids[image] = None
    if not ids:
        raise UserError(f"{path}: no images")
    return list(ids)


def _rows(
    folder: Path, name: str, index_of: dict[str, int], line_format: str
) -> Iterator[tuple[str, int, list[str]]]:
    """The place, the image's index and the other fields of each line."""
    count = line_format.count(",")
    for place, line in annotation_lines(_file(folder, name)):
        image, *fields = line.strip().rsplit(",", count)  # a path may hold commas
        if len(fields) != count:
            raise UserError(f"{place}: '{brief(line)}' is not {line_format}")
        if image not in index_of:
            raise UserError(f"{place}: no '{brief(image)}' in image_ids.txt; want {line_format}")
        yield place, index_of[image], fields


def _value_per_image(
    folder: Path, name: str, index_of: dict[str, int], line_format: str, parse: Callable
) -> np.ndarray:
    """What `parse` makes of the fields and the place of each image's line, in order of images."""
    parsed: dict[int, int | tuple[int, int]] = {}
    for place, i, fields in _rows(folder, name, index_of, line_format):
        if i in parsed:
            raise UserError(f"{place}: a second line for its image; keep one")
        parsed[i] = parse(*fields, place)
    _require_all(folder, name, index_of, parsed)
    return np.array([parsed[i] for i in index_of.values()], dtype=np.int64)


def _require_all(folder: Path, name: str, index_of: dict[str, int], lines: dict) -> None:
    if missing := next((image for image, i in index_of.items() if i not in lines), None):
        place = place_of(folder / "image_ids.txt", index_of[missing])
        raise UserError(f"{place}: image '{brief(missing)}' has no line in {folder / name}")


def wsol_image_sets(dataset: str, data_dir: Path) -> dict[str, ImageSet]:
    """The three splits of a name of `WSOL_FOLDERS`: "train", "validation" and "test".

    Images of OpenImages have masks, except in "train", and None for sizes and boxes. Classes have
    the names of the folders of their training images if each class has exactly one folder;
    otherwise their numbers.

    UserError as in `read_wsol_split` or `read_mask_split`, for an image in two splits, and for a
    class without training images.
    """
    root, metadata = (data_dir / inner / WSOL_FOLDERS[dataset] for inner in ("", "metadata"))
    splits = {}
    for part, split in FOLDER_OF_SPLIT.items():
        folder, optional = metadata / split, part == "train"
        if dataset == OPENIMAGES:
            splits[part] = read_mask_split(folder, root, masks_optional=optional)
        else:
            splits[part] = read_wsol_split(folder, boxes_optional=optional)
    part_of: dict[str, str] = {}
    for part, split in splits.items():
        for image in split.names:
            if (first := part_of.setdefault(image, part)) != part:
                both = f"both in {FOLDER_OF_SPLIT[first]} and in {FOLDER_OF_SPLIT[part]}"
                raise UserError(f"{metadata}: image '{brief(image)}' is {both}; keep it in one")
    num_classes = 1 + max(int(split.labels.max()) for split in splits.values())
    present = np.unique(splits["train"].labels)
    if len(present) < num_classes:
        missing = next(k for k, label in enumerate([*present, num_classes]) if k < label)
        place = metadata / "train/class_labels.txt"
        raise UserError(f"{place}: no image of class {missing}; want 0..{num_classes - 1}")
    names = _class_names(splits["train"], num_classes)
    sets = {}
    for part, split in splits.items():
        paths, labels = [root / image for image in split.names], torch.from_numpy(split.labels)
        sets[part] = ImageSet(dataset, paths, labels, names, split.boxes, split.sizes)
        sets[part] = replace(sets[part], mask_files=split.masks)
    return sets


def _class_names(train: Annotations, num_classes: int) -> list[str]:
    folders: list[set[str]] = [set() for _ in range(num_classes)]
    for image, label in zip(train.names, train.labels.tolist(), strict=True):
        folders[label].add(image.rpartition("/")[0].rpartition("/")[2])
    names = [name for of_class in folders for name in of_class if name]
    if len(names) == len(set(names)) == num_classes and all(len(names) == 1 for names in folders):
        return names
    return [str(label) for label in range(num_classes)]
