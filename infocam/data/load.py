"""Images with labels and boxes, in three splits: train, validation and test.

Networks learn from `train` without its boxes. Thresholds and all other choices are made on
`validation`; results are measured on `test`.

    tiny-imagenet  cub  scattered-digits    as `python -m scripts.download_data NAME` leaves them
    cubv2  ilsvrc  openimages30k            the benchmark's metadata: see `wsol_metadata`
    folder                                  your own pictures and boxes.csv: see `box_files`

`data/README.md` shows the folders. In the training split of the benchmark's sets and of folder an
image may have no box. Boxes are as annotated, but those of openimages30k are around its masks; the
boxes of cub, and by one pixel those of cubv2 and ilsvrc, may end outside their image.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from infocam.data.box_files import boxed_folder, require_boxes
from infocam.data.masks import InstanceMasks, object_boxes
from infocam.data.scattered_digits import CANVAS, scattered_digits
from infocam.data.wsol_metadata import WSOL_FOLDERS, wsol_image_sets
from mi_common.annotation_lines import annotation_lines, place_of
from mi_common.datasets import idx_images
from mi_common.errors import UserError
from mi_common.image_files import cub, tiny_imagenet
from mi_common.image_sets import ImageSet
from mi_common.pictures import EXTENSIONS, image_size
from mi_common.progress import in_blocks

SPLITS = ("train", "validation", "test")
DIGITS_TRAIN_WINDOW = 50_000  # later digits of the training file are for the validation split
DIGITS_SEEDS = {"train": 0, "validation": 1, "test": 2}  # of the canvases, the same for every run


def load_splits(
    dataset: str,
    data_dir: Path,
    *,
    images_per_class: int | None,
    val_per_class: int,
    test_images: int | None = None,
    splits: tuple[str, ...] = SPLITS,
) -> dict[str, ImageSet]:
    """The wanted splits of a data set by name; no image is in two.

    UserError for missing data, wrong annotations, or sizes that leave nothing to train on.

    Args:
        images_per_class: training images of each class to use, the validation images included;
            None for all.
        val_per_class: how many of these are the validation split: the last ones of each class; 0
            for the benchmark's sets, which have validation images.
        test_images: how many test images to use, spread evenly; None means all.
    """
    data_dir = Path(data_dir)
    if images_per_class is not None and val_per_class >= images_per_class:
        raise UserError(
            f"--val-per-class {val_per_class}: must be below --images-per-class {images_per_class}"
        )
    if dataset == "scattered-digits":
        if images_per_class is None:
            raise UserError("scattered-digits: unlimited; give --images-per-class")
        counts = {"train": 10 * (images_per_class - val_per_class)}
        counts |= {"validation": 10 * val_per_class, "test": test_images or 2000}
        return _digit_splits(data_dir, {split: counts[split] for split in splits})
    files, root, masks = _image_files(dataset, data_dir)
    needed = val_per_class + 1 if "train" in splits else val_per_class
    in_train, in_validation = _split_by_class(
        files["train"], images_per_class, val_per_class, needed=needed
    )
    count = min(test_images or len(files["test"]), len(files["test"]))
    spread = torch.arange(count) * len(files["test"]) // count
    selected = {
        "train": files["train"].select(in_train),
        "validation": files.get("validation") or files["train"].select(in_validation),
        "test": files["test"].select(spread),
    }
    if dataset == "folder":
        require_boxes(data_dir, selected["validation"])
    sets = {split: _described(selected[split], root, masks.get(split)) for split in splits}
    if dataset == "cub":
        _check_cub_boxes(root, sets)
    return sets


def _digit_splits(data_dir: Path, counts: dict[str, int]) -> dict[str, ImageSet]:
    images, labels = idx_images("mnist", data_dir, "train")
    sources = {
        "train": (images[:DIGITS_TRAIN_WINDOW], labels[:DIGITS_TRAIN_WINDOW]),
        "validation": (images[DIGITS_TRAIN_WINDOW:], labels[DIGITS_TRAIN_WINDOW:]),
        "test": idx_images("mnist", data_dir, "test"),
    }
    digits = [str(digit) for digit in range(10)]
    sets = {}
    for split, count in counts.items():
        pixels, classes, boxes = scattered_digits(*sources[split], count, DIGITS_SEEDS[split])
        sizes, names = np.full((count, 2), CANVAS), [f"{split}-{i:05d}" for i in range(count)]
        images_of_split = (pixels.unsqueeze(1), classes, digits, boxes, sizes, names)
        sets[split] = ImageSet("scattered-digits", *images_of_split)
    return sets


def _image_files(dataset: str, data_dir: Path) -> tuple[dict[str, ImageSet], Path, dict[str, Path]]:
    """Files by split, all of them; the folder their names start from; folders of masks by split."""
    if dataset in WSOL_FOLDERS:
        return wsol_image_sets(dataset, data_dir), data_dir / WSOL_FOLDERS[dataset], {}
    if dataset == "tiny-imagenet":
        files = {split: tiny_imagenet(data_dir, split) for split in ("train", "test")}
        return files, data_dir / "tiny-imagenet-200", {}
    if dataset == "cub":
        root, masks = (data_dir / "CUB_200_2011" / name for name in ("images", "segmentations"))
        files = {split: cub(data_dir, split) for split in ("train", "test")}
        return files, root, dict.fromkeys(SPLITS, masks) if masks.is_dir() else {}
    if dataset != "folder":
        raise ValueError(f"data set {dataset!r}: no reader")
    masks = data_dir / "masks"
    return boxed_folder(data_dir), data_dir, {"test": masks} if masks.is_dir() else {}


def _split_by_class(
    files: ImageSet, images_per_class: int | None, val_per_class: int, *, needed: int
) -> tuple[Tensor, Tensor]:
    """Positions of the training images and of the validation images, the last of each class.

    UserError for a class with fewer images than `needed`.
    """
    by_class = files.labels.argsort(stable=True)
    counts = files.labels.bincount(minlength=len(files.class_names))
    train, validation = [], []
    for name, of_class in zip(files.class_names, by_class.split(counts.tolist()), strict=True):
        positions = of_class[:images_per_class]
        if len(positions) < needed:
            raise UserError(f"class {name}: only {len(positions)} images; lower --val-per-class")
        split = len(positions) - val_per_class
        train.append(positions[:split])
        validation.append(positions[split:])
    return torch.cat(train), torch.cat(validation)


def image_name(path: str) -> str:
    """The path without the endings of image files, as in `ImageSet.image_names`."""
    stem, dot, ending = path.rpartition(".")
    return image_name(stem) if f"{dot}{ending}".lower() in EXTENSIONS else path


def require_own_names(images: list[str]) -> None:
    """UserError if two images differ in nothing but their ending: they would share a map file."""
    seen: dict[str, str] = {}
    for image in images:
        if (earlier := seen.setdefault(image_name(image), image)) != image:
            raise UserError(f"{earlier} and {image}: the same name but for the ending; rename one")


def _described(files: ImageSet, root: Path, masks: Path | None) -> ImageSet:
    """Image files with names, with sizes, from their headers if need be, and with masks."""
    sizes = files.sizes
    if sizes is None:
        progress = tqdm(files.images, desc=f"sizes of {files.name}", disable=None)
        sizes = np.array([image_size(path) for path in progress]).reshape(-1, 2)
    # relative_to is slow, and ILSVRC has more than a million paths
    images = [path.as_posix().removeprefix(f"{root.as_posix()}/") for path in files.images]
    require_own_names(images)
    names = [image_name(image) for image in images]
    mask_files, boxes = files.mask_files, files.boxes
    if masks:
        mask_files = [(masks / image).with_suffix(".png") for image in images]
        if missing := next((path for path in mask_files if not path.is_file()), None):
            raise UserError(f"no mask {missing}; give every image one, or no folder {masks}")
    if boxes is None:
        boxes = boxes_of_masks(mask_files, sizes)
    return replace(files, boxes=boxes, sizes=sizes, image_names=names, mask_files=mask_files)


def boxes_of_masks(masks: list[InstanceMasks], sizes: np.ndarray) -> list[np.ndarray]:
    """The boxes of each image's objects; see `infocam.data.masks.object_boxes`."""
    return [
        object_boxes(masks[i], *sizes[i].tolist())
        for (i,) in in_blocks(len(masks), 1, "boxes of masks")
    ]


def _check_cub_boxes(root: Path, sets: dict[str, ImageSet]) -> None:
    """UserError for a box without a pixel of its image; the official file has none such."""
    for images in sets.values():
        for path, (box,), size in zip(images.images, images.boxes, images.sizes, strict=True):
            if (box[:2] >= size).any():
                lines = annotation_lines(root.parent / "images.txt")
                listed = [root / line.strip().split(maxsplit=1)[1] for _, line in lines]
                place = place_of(root.parent / "bounding_boxes.txt", listed.index(path))
                raise UserError(f"{place}: the box is outside its image of {size[0]} x {size[1]}")
