"""CSV files with boxes, row by row; what is wrong is named by file and line.

`DATA/boxes.csv` of a folder of one's own, with a row a box:

    image,x0,y0,x1,y1
    test/cat/1.jpg,10,4,99,63
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mi_common.annotation_lines import brief, parse_box
from mi_common.errors import UserError
from mi_common.image_files import ImageFiles, image_folder, image_size

CORNERS = ("x0", "y0", "x1", "y1")
NO_BOXES = np.zeros((0, 4), dtype=np.int64)


def csv_rows(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """The place, "FILE, line N", and the cells by column of each row that is not empty.

    Raises:
        UserError: a missing file, one that cannot be read or is not CSV text in UTF-8, a header
            without one of the columns or with others, or a row of another length.
    """
    want = f"want the columns {','.join(columns)}"
    want += f" and maybe {','.join(optional)}" if optional else ""
    if not os.path.isfile(path):  # unlike the method of Path, also of a name that is too long
        raise UserError(f"no file {path}; {want}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write the mark
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


def boxed_folder(data_dir: Path) -> dict[str, ImageFiles]:
    """The images of `data_dir/train/CLASS` and `data_dir/test/CLASS` with those boxes, by part.

    Images without a row have an array of no boxes, (0, 4); in the test part that is an error. A box
    may stand on several lines, as in some official files: scores take the best or the union of an
    image's boxes, so that a second copy changes none.

    Raises:
        UserError: as `mi_common.image_files.image_folder`; a row that names another image; a box
            that is not inside its image; a test image without boxes.
    """
    found: dict[str, list[np.ndarray]] = {}
    parts = {part: image_folder(data_dir, part) for part in ("train", "test")}
    paths = [path for files in parts.values() for path in files.paths]
    sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(
        path.relative_to(data_dir).as_posix() for path in paths
    )
    for place, row in csv_rows(Path(data_dir) / "boxes.csv", ("image", *CORNERS)):
        image = row["image"]
        if image not in sizes:
            raise UserError(
                f"{place}: no image '{brief(image)}'; want a path such as test/CLASS/1.jpg"
            )
        sizes[image] = sizes[image] or image_size(Path(data_dir) / image)
        width, height = sizes[image]
        box = parse_box([row[name] for name in CORNERS], place, width=width, height=height)
        found.setdefault(image, []).append(box)

    def boxes(path: Path) -> np.ndarray:
        own = found.get(path.relative_to(data_dir).as_posix())
        return np.stack(own) if own else NO_BOXES

    parts = {
        part: replace(files, boxes=[boxes(path) for path in files.paths])
        for part, files in parts.items()
    }
    require_boxes(data_dir, parts["test"])
    return parts


def require_boxes(data_dir: Path, files: ImageFiles) -> None:
    """UserError that names the first image without boxes."""
    for path, boxes in zip(files.paths, files.boxes, strict=True):
        if not len(boxes):
            image = path.relative_to(data_dir).as_posix()
            want = f"held-out and test images need one; add a line {image},x0,y0,x1,y1"
            raise UserError(f"{Path(data_dir) / 'boxes.csv'}: no box of {image}; {want}")
