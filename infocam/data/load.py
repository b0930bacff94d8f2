"""Images with labels and boxes, in three parts: train, held-out and test.

Networks learn from `train` without its boxes. Whatever is chosen, thresholds above all, is chosen
on `held-out`. What is reported is measured on `test`.

    tiny-imagenet  cub  scattered-digits    as `python -m scripts.download_data NAME` leaves them
    cubv2  ilsvrc                           the benchmark's metadata: see `wsol_metadata`
    folder                                  pictures of one's own and boxes.csv: see `box_files`

`data/README.md` shows the folders.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from infocam.data.box_files import boxed_folder, require_boxes
from infocam.data.masks import read_mask
from infocam.data.scattered_digits import CANVAS, scattered_digits
from infocam.data.wsol_metadata import WSOL_FOLDERS, wsol_files
from mi_common.annotation_lines import annotation_lines, place_of
from mi_common.datasets import idx_images
from mi_common.errors import UserError
from mi_common.fingerprints import fingerprint
from mi_common.image_files import (
    EXTENSIONS,
    ImageFiles,
    cub,
    image_size,
    read_image,
    tiny_imagenet,
)

DATASETS = ("tiny-imagenet", "scattered-digits", "cub", "cubv2", "ilsvrc", "folder")
PARTS = ("train", "held-out", "test")
DIGITS_TRAIN_WINDOW = 50_000  # digits of the training file from here on are for the held-out part
DIGITS_SEEDS = {"train": 0, "held-out": 1, "test": 2}  # of the canvases, the same for every run


@dataclass(frozen=True)
class LocalisationSet:
    """One part of a data set.

    Attributes:
        images: (N, 1, H, W) floats in 0..1, or the list of files.
        labels: (N,) int64.
        boxes: an (M, 4) int array x0 y0 x1 y1 of inclusive pixels an image. M may be 0 in the
            training part of cubv2, ilsvrc and folder. As annotated: boxes of cub, and those of
            cubv2 and ilsvrc by one pixel, may end outside their image.
        sizes: (N, 2) int width, height of each image, which its boxes and mask are measured in.
        names: of the images, each its own: the path without its ending, for tables and saved maps.
        masks: files that `infocam.data.masks` reads, one an image; None where the set has none.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    boxes: list[np.ndarray]
    class_names: list[str]
    sizes: np.ndarray
    names: list[str]
    masks: list[Path] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 pixels of one image.

        Raises:
            UserError: a file that is not readable, or of another size than the annotation says.
        """
        if isinstance(self.images, ImageFiles):
            path = self.images.paths[index]
            image, (width, height) = read_image(path), self.sizes[index]
            if image.size != (width, height):
                found = f"{image.width} x {image.height}"
                raise UserError(f"{path}: {found} pixels, by its annotation {width} x {height}")
            return np.asarray(image)
        grey = (self.images[index, 0] * 255).byte().numpy()
        return np.repeat(grey[..., None], 3, axis=2)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8 of one image: 1 foreground, 0 background, 255 to be ignored."""
        if self.masks is None:
            raise ValueError("this set has no masks")
        width, height = self.sizes[index].tolist()
        return read_mask(self.masks[index], width, height)


def load_parts(
    dataset: str,
    data_dir: Path,
    *,
    images_per_class: int | None,
    held_out_per_class: int,
    test_images: int | None,
) -> dict[str, LocalisationSet]:
    """The parts of a data set by name: "train", "held-out" and "test"; no image is in two.

    Args:
        dataset: one of DATASETS.
        images_per_class: training images of each class to use, the held-out ones included; None
            for all that there are.
        held_out_per_class: how many of these are held out: the last ones of each class. Of no
            effect on cubv2 and ilsvrc, whose own `val` split is the held-out part.
        test_images: how many test images to use, spread evenly; None for all that there are.

    Raises:
        UserError: missing data, wrong annotations, or sizes that leave nothing to train on.
    """
    data_dir = Path(data_dir)
    if dataset in WSOL_FOLDERS:
        held_out_per_class = 0
    if images_per_class is not None and held_out_per_class >= images_per_class:
        raise UserError(
            f"--held-out-per-class {held_out_per_class}: must be below --images-per-class "
            f"{images_per_class}"
        )
    if dataset == "scattered-digits":
        if images_per_class is None:
            raise UserError("scattered-digits: drawn without end; say --images-per-class")
        per_class = {
            "train": images_per_class - held_out_per_class,
            "held-out": held_out_per_class,
        }
        counts = {part: 10 * n for part, n in per_class.items()} | {"test": test_images or 2000}
        return _digit_parts(data_dir, counts)
    files, root, masks = _image_files(dataset, data_dir)
    kept, held_out = _split_by_class(files["train"], images_per_class, held_out_per_class)
    count = min(test_images or len(files["test"]), len(files["test"]))
    spread = torch.arange(count) * len(files["test"]) // count
    chosen = {
        "train": files["train"].select(kept),
        "held-out": files.get("validation") or files["train"].select(held_out),
        "test": files["test"].select(spread),
    }
    parts = {part: _as_set(own, root, masks.get(part)) for part, own in chosen.items()}
    if dataset == "cub":
        _check_cub_boxes(root, parts)
    if dataset == "folder":
        require_boxes(data_dir, chosen["held-out"])
    return parts


def data_fingerprints(parts: dict[str, LocalisationSet]) -> dict[str, str]:
    """Of the parts that a run is made from, by name; see `mi_common.fingerprints`."""
    return {name: fingerprint(parts[name].images, parts[name].labels) for name in PARTS[:2]}


def _digit_parts(data_dir: Path, counts: dict[str, int]) -> dict[str, LocalisationSet]:
    images, labels = idx_images("mnist", data_dir, "train")
    sources = {
        "train": (images[:DIGITS_TRAIN_WINDOW], labels[:DIGITS_TRAIN_WINDOW]),
        "held-out": (images[DIGITS_TRAIN_WINDOW:], labels[DIGITS_TRAIN_WINDOW:]),
        "test": idx_images("mnist", data_dir, "test"),
    }
    digits = [str(digit) for digit in range(10)]
    parts = {}
    for part, source in sources.items():
        canvases, classes, boxes = scattered_digits(*source, counts[part], DIGITS_SEEDS[part])
        pixels = canvases.unsqueeze(1).float() / 255
        sizes = np.full((len(pixels), 2), CANVAS)
        names = [f"{part}-{i:05d}" for i in range(len(pixels))]
        parts[part] = LocalisationSet(pixels, classes, boxes, digits, sizes, names)
    return parts


def _image_files(
    dataset: str, data_dir: Path
) -> tuple[dict[str, ImageFiles], Path, dict[str, Path]]:
    """Files by part, all of them; the folder their names start from; folders of masks by part."""
    if dataset in WSOL_FOLDERS:
        return wsol_files(dataset, data_dir), data_dir / WSOL_FOLDERS[dataset], {}
    if dataset == "tiny-imagenet":
        splits = {"train": "train", "test": "val"}
        files = {part: tiny_imagenet(data_dir, split) for part, split in splits.items()}
        return files, data_dir / "tiny-imagenet-200", {}
    if dataset == "cub":
        root, masks = (data_dir / "CUB_200_2011" / name for name in ("images", "segmentations"))
        files = {part: cub(data_dir, part) for part in ("train", "test")}
        return files, root, dict.fromkeys(PARTS, masks) if masks.is_dir() else {}
    masks = data_dir / "masks"
    return boxed_folder(data_dir), data_dir, {"test": masks} if masks.is_dir() else {}


def _split_by_class(
    files: ImageFiles, images_per_class: int | None, held_out_per_class: int
) -> tuple[Tensor, Tensor]:
    """Numbers of the images to train on and of the held-out ones, the last of each class."""
    by_class = files.labels.argsort(stable=True)
    counts = files.labels.bincount(minlength=len(files.class_names))
    kept, held_out = [], []
    for name, own in zip(files.class_names, by_class.split(counts.tolist()), strict=True):
        own = own[:images_per_class]
        if len(own) <= held_out_per_class:
            want = f"want more than --held-out-per-class {held_out_per_class}"
            raise UserError(f"class {name}: only {len(own)} training images; {want}")
        split = len(own) - held_out_per_class
        kept.append(own[:split])
        held_out.append(own[split:])
    return torch.cat(kept), torch.cat(held_out)


def image_name(path: str) -> str:
    """The path without the endings of image files, as `LocalisationSet.names` has it."""
    stem, dot, ending = path.rpartition(".")
    return image_name(stem) if f"{dot}{ending}".lower() in EXTENSIONS else path


def require_own_names(images: list[str]) -> None:
    """UserError if two images differ in nothing but their ending: they would share a map file."""
    seen: dict[str, str] = {}
    for image in images:
        if (other := seen.setdefault(image_name(image), image)) != image:
            raise UserError(f"{other} and {image}: the same name but for the ending; rename one")


def _as_set(files: ImageFiles, root: Path, masks: Path | None) -> LocalisationSet:
    """A list of files with names, sizes, from the headers if need be, and files of masks."""
    sizes = files.sizes
    if sizes is None:
        progress = tqdm(files.paths, desc=f"sizes of {files.name}", disable=None)
        sizes = np.array([image_size(path) for path in progress]).reshape(-1, 2)
    # relative_to is slow, and ILSVRC has more than a million paths
    images = [path.as_posix().removeprefix(f"{root.as_posix()}/") for path in files.paths]
    require_own_names(images)
    names = [image_name(image) for image in images]
    mask_files = None
    if masks is not None:
        mask_files = [(masks / image).with_suffix(".png") for image in images]
        if lacking := next((path for path in mask_files if not path.is_file()), None):
            raise UserError(f"no mask {lacking}; want one an image, or no folder {masks}")
    return LocalisationSet(
        files, files.labels, files.boxes, files.class_names, sizes, names, mask_files
    )


def _check_cub_boxes(root: Path, parts: dict[str, LocalisationSet]) -> None:
    """UserError for a box without a pixel of its image; the official file has none such."""
    for part in parts.values():
        for path, (box,), size in zip(part.images.paths, part.boxes, part.sizes, strict=True):
            if (box[:2] >= size).any():
                lines = annotation_lines(root.parent / "images.txt")
                listed = [root / line.strip().split(maxsplit=1)[1] for _, line in lines]
                place = place_of(root.parent / "bounding_boxes.txt", listed.index(path))
                raise UserError(f"{place}: the box is outside its image of {size[0]} x {size[1]}")
