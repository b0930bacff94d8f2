"""CSV files with boxes, read row by row; errors name the file and the line.

`DATA/boxes.csv` of your own folder of pictures has a row per box:

    image,x0,y0,x1,y1
    test/cat/1.jpg,10,4,99,63
"""

import csv
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infocam.data.masks import InstanceMasks
from mi_common.annotation_lines import brief, parse_box
from mi_common.errors import UserError
from mi_common.image_files import image_folder
from mi_common.image_sets import ImageSet
from mi_common.pictures import image_size

CORNERS = ("x0", "y0", "x1", "y1")
NO_BOXES = np.zeros((0, 4), dtype=np.int64)


@dataclass(frozen=True)
class Annotations:
    """The ground truth of N images, as in `ImageSet`."""

    names: list[str]
    sizes: np.ndarray | None  # (N, 2) int width, height
    # An (M, 4) int array x0 y0 x1 y1 of inclusive pixels for each image; None: those of the masks.
    boxes: list[np.ndarray] | None
    labels: np.ndarray | None = None  # (N,) int64
    masks: list[Path | InstanceMasks] | None = None


def csv_rows(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """The place, "FILE, line N", and the cells by column of each row that is not empty.

    UserError for a missing or unreadable file, or one that is not CSV text in UTF-8; a header that
    lacks a column or has an unknown one; a row with more or fewer cells than the header.
    """
    want = f"want the columns {','.join(columns)}"
    want += f" and maybe {','.join(optional)}" if optional else ""
    if not os.path.isfile(path):  # False for a name that is too long, where Path.is_file fails
        raise UserError(f"no file {path}; {want}")
    try:
        with path.open(
            encoding="utf-8-sig", newline=""
        ) as file:  # spreadsheets write a byte-order mark
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            allowed = {*columns, *optional}
            if len(set(header)) < len(header) or not set(columns) <= set(header) <= allowed:
                raise UserError(f"{path}, line 1: columns {brief(','.join(header))}; {want}")
            for cells in reader:
                place = f"{path}, line {reader.line_num}"
                if cells and len(cells) != len(header):
                    raise UserError(f"{place}: {len(cells)} cells, not {len(header)}")
                if cells:
                    yield place, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def boxed_folder(data_dir: Path) -> dict[str, ImageSet]:
    """The images of `data_dir/train/CLASS` and `data_dir/test/CLASS` with their boxes, by part.

    Training images without a row have no boxes, (0, 4). The same box may be on several lines, as in
    some official files: scores use the best or the union of an image's boxes, so copies change
    nothing.

    UserError as in `mi_common.image_files.image_folder`, and for a row for an image that does not
    exist, a box that is not inside its image, or a test image without boxes.
    """
    parts = {part: image_folder(data_dir, part) for part in ("train", "test")}
    names = {
        part: [path.relative_to(data_dir).as_posix() for path in files.images]
        for part, files in parts.items()
    }
    boxes: dict[str, list[np.ndarray]] = {image: [] for part in names.values() for image in part}
    size_of = functools.cache(image_size)
    for place, row in csv_rows(data_dir / "boxes.csv", ("image", *CORNERS)):
        image = row["image"]
        if image not in boxes:
            raise UserError(f"{place}: no image '{brief(image)}'; write it as test/CLASS/1.jpg")
        width, height = size_of(data_dir / image)
        box = parse_box([row[name] for name in CORNERS], place, width=width, height=height)
        boxes[image].append(box)
    for part, images in names.items():
        in_order = [np.stack(boxes[image]) if boxes[image] else NO_BOXES for image in images]
        parts[part] = replace(parts[part], boxes=in_order)
    require_boxes(data_dir, parts["test"])
    return parts


def require_boxes(data_dir: Path, files: ImageSet) -> None:
    """UserError that names the first image without boxes."""
    for path, boxes in zip(files.images, files.boxes, strict=True):
        if not len(boxes):
            image = path.relative_to(data_dir).as_posix()
            want = f"validation and test images need one; add a line {image},x0,y0,x1,y1"
            raise UserError(f"{data_dir / 'boxes.csv'}: no box of {image}; {want}")
