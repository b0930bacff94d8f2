"""Files of true boxes and masks, to score saved maps without a data set or a network.

A CSV file with a row per box; `label` and `mask`, a path relative to the file, are optional:

    image,width,height,x0,y0,x1,y1,label,mask
    test/cat/1,120,80,10,4,99,63,0,masks/1.png

or a folder with one split of the benchmark's metadata, see `infocam.data.wsol_metadata`.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from infocam.data.box_files import CORNERS, Annotations, csv_rows
from infocam.data.load import boxes_of_masks, image_name, require_own_names
from infocam.data.masks import FOREGROUND, InstanceMasks, scored_mask
from infocam.data.wsol_metadata import (
    inner_path,
    is_mask_split,
    read_mask_split,
    read_wsol_split,
)
from mi_common.annotation_lines import CONTROL, brief, parse_box, parse_label, parse_size
from mi_common.errors import UserError
from mi_common.files import write_atomically
from mi_common.image_sets import ImageSet
from mi_common.pictures import image_size

COLUMNS = ("image", "width", "height", *CORNERS)
_UNSAFE = re.compile(rf"[\r\n\ud800-\udfff]|{CONTROL.pattern}")  # surrogates: not UTF-8


def map_file(folder: Path, name: str) -> Path:
    """The file of an image's map: FOLDER/NAME.npy, NAME without the ending of an image file."""
    return folder / f"{image_name(name)}.npy"


def read_annotations(path: Path) -> Annotations:
    """Annotations of a CSV file, in the order of its images' first rows, or of a metadata folder.

    UserError for a missing file; an invalid row, or one that contradicts an earlier row of its
    image; a box that starts outside its image; two images that differ only in their ending.
    """
    if os.path.isdir(path):  # False for a name that is too long, where Path.is_dir fails
        split = _read_masks(path) if is_mask_split(path) else read_wsol_split(path)
        require_own_names(split.names)
        return replace(split, names=[image_name(image) for image in split.names])
    facts: dict[str, tuple] = {}  # width, height, label, mask
    boxes: dict[str, list[np.ndarray]] = {}
    for place, row in csv_rows(path, COLUMNS, ("label", "mask")):
        image, values = inner_path(row["image"], place), _facts(row, place, path.parent)
        if (earlier := facts.setdefault(image, values)) != values:
            new, old = (" ".join(str(v) for v in x if v is not None) for x in (values, earlier))
            raise UserError(f"{place}: {new} for {brief(image)}, before {old}; make them equal")
        corners = [row[name] for name in CORNERS]
        # boxes of CUB may end outside their image
        box = parse_box(corners, place, width=values[0], height=values[1], beyond=np.inf)
        boxes.setdefault(image, []).append(box)
    if not facts:
        raise UserError(f"{path}: no images")
    require_own_names(list(facts))
    widths, heights, labels, masks = zip(*facts.values(), strict=True)
    return Annotations(
        [image_name(image) for image in facts],
        np.stack([widths, heights], axis=1),
        [np.stack(image_boxes) for image_boxes in boxes.values()],
        None if labels[0] is None else np.array(labels),
        None if masks[0] is None else list(masks),
    )


def _read_masks(folder: Path) -> Annotations:
    """A split with masks, with the sizes of its images, and the boxes around its objects."""
    root = folder.absolute().parents[2] / folder.absolute().parent.name
    split = read_mask_split(folder, root)
    sizes = split.sizes
    if sizes is None:
        sizes = np.array([image_size(root / image) for image in split.names])
    return replace(split, sizes=sizes, boxes=boxes_of_masks(split.masks, sizes))


def _facts(row: dict[str, str], place: str, folder: Path) -> tuple:
    """Width, height, label and mask of a row; None if the file has no such column."""
    width, height = parse_size(row["width"], row["height"], place)
    label = parse_label(row["label"], place) if "label" in row else None
    mask = None
    if "mask" in row:
        mask = Path(os.path.normpath(folder / row["mask"]))
        if not os.path.isfile(mask):
            shown = f"{folder}/{brief(row['mask'])}" if row["mask"] else folder
            raise UserError(f"{place}: no mask {shown}; give every image one, or drop the column")
    return width, height, label, mask


def write_annotations(path: Path, data: ImageSet) -> None:
    """Writes the CSV file of a part of a data set atomically.

    The masks of an image's instances become one file, `masks/NAME.png` beside it, of the image's
    size.

    UserError for an image without boxes, which training sets may have, or with a name that the file
    cannot hold.
    """
    columns, rows = [*COLUMNS, "label", *([] if data.mask_files is None else ["mask"])], []
    for i, name in enumerate(data.image_names):
        if _UNSAFE.search(name):
            raise UserError(
                f"{path}: name {name!r} holds a control character or is not UTF-8; rename it"
            )
        if not len(data.boxes[i]):
            raise UserError(f"{path}: no box of {name} to write; annotate it or leave it out")
        mask = [] if data.mask_files is None else [_mask_cell(path.parent, data, i)]
        for box in data.boxes[i].tolist():
            rows.append([name, *data.sizes[i].tolist(), *box, int(data.labels[i]), *mask])

    table = pd.DataFrame(rows, columns=columns)
    write_atomically(path, lambda partial: table.to_csv(partial, index=False, lineterminator="\n"))


def _mask_cell(folder: Path, data: ImageSet, i: int) -> str:
    """The mask of image `i` as a path relative to the folder."""
    files = data.mask_files[i]
    if isinstance(files, InstanceMasks):
        size = data.sizes[i].tolist()
        mask, files = (
            scored_mask(files, size, tuple(size)),
            folder / f"masks/{data.image_names[i]}.png",
        )
        if not (mask == FOREGROUND).any():  # it would read back as something else
            raise UserError(f"{data.image_names[i]}: its objects are smaller than a pixel")
        write_atomically(files, lambda partial: Image.fromarray(mask).save(partial, "png"))
    return os.path.relpath(files, folder)
