"""Image sets made imbalanced: training images, validation images, and named test sets.

    data = load_data("cifar10", Path("data"), imbalance="exp:100")

Test sets: `official`, and with the paper's imbalance the original's own list, imbalanced like its
training list: `paper-window` (MNIST family) or `paper-list` (image files).
"""

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mi_common.datasets import IDX_DATASETS, image_tensors
from mi_common.errors import UserError, one_line
from mi_common.image_files import cub, image_folder, other_files, tiny_imagenet
from mi_common.image_sets import ImageSet
from mi_common.information import class_counts
from mi_common.pictures import read_image
from pc_softmax.imbalance import class_limits, first_per_class, paper_digits, paper_files
from pc_softmax.recipes import FILE_DATASETS, PAPER_DATASETS

MAX_LISTED = 10  # files and classes in a note


@dataclass(frozen=True)
class ImbalancedData:
    """An image set with the splits of an experiment.

    Attributes:
        validation: drawn from the training images, or None.
        tests: by name; the imbalanced list, if there is one, before "official"; empty for
            `--dataset folder` without test images.
        indices: ascending int64 positions of the images of every split, under "train",
            "validation" and "test/NAME"; in the official test file for "test/official" and
            "test/paper-list", in the official training file for all others.
        notes: lines to print: files that were left out, classes that lack images of a split.
    """

    name: str
    train: ImageSet
    validation: ImageSet | None
    tests: dict[str, ImageSet]
    indices: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> list[str]:
        return self.train.class_names

    @property
    def counts(self) -> Tensor:
        """(K,) int64 training images of each class."""
        return class_counts(self.train.labels, len(self.class_names))

    def fingerprints(self) -> dict[str, str]:
        """Of every split by name; see `mi_common.fingerprints`."""
        splits = {"train": self.train} | {f"test {name}": t for name, t in self.tests.items()}
        splits |= {"validation": self.validation} if self.validation else {}
        return {name: images.fingerprint for name, images in splits.items()}


def load_data(
    dataset: str,
    data_dir: Path,
    *,
    imbalance: str,
    val_fraction: float = 0.0,
    seed: int = 0,
    skip_unreadable: bool = False,
) -> ImbalancedData:
    """Reads an image set and makes its training images imbalanced.

    Args:
        dataset: one of `recipes.DATASETS`; "folder" is `data_dir` itself, see `image_folder`.
        imbalance: as `parse_imbalance` gives it; "paper" is the rule of the original's lists.
        val_fraction: share of each class of the imbalanced list, rounded down, that is drawn for
            validation, 0 to below 1.
        seed: of that draw; nothing else here is random.
        skip_unreadable: reads every image file once and leaves out those that fail. Without it, a
            later reader of such a file raises a UserError.

    UserError for missing or damaged data, a class without training images, no validation images,
    and an option that is not for the data set.
    """
    if imbalance == "paper" and dataset not in PAPER_DATASETS:
        raise UserError(f"--imbalance paper: only for {', '.join(PAPER_DATASETS)}, not {dataset}")
    if skip_unreadable and dataset not in FILE_DATASETS:
        raise UserError(f"--skip-unreadable: only for {', '.join(FILE_DATASETS)}, not {dataset}")
    train = _reader(dataset)(data_dir, "train")
    scored = dataset != "folder" or (Path(data_dir) / "test").is_dir()
    test = _reader(dataset)(data_dir, "test") if scored else train.select(torch.arange(0))
    class_names = train.class_names
    if len(class_names) < 2:
        raise UserError(f"{dataset}: {len(class_names)} class; a classifier needs two or more")
    in_train, in_test, skipped = torch.arange(len(train)), torch.arange(len(test)), []
    if skip_unreadable:
        (in_train, skipped_train), (in_test, skipped_test) = _readable(train), _readable(test)
        skipped = skipped_train + skipped_test
    labels, test_labels = train.labels[in_train], test.labels[in_test]
    from_train, from_test = _lists(dataset, imbalance, labels, test_labels, len(class_names))
    if val_fraction:
        listed = from_train["train"]
        validation = stratified(labels[listed], val_fraction, seed)
        from_train |= {"train": listed[~validation], "validation": listed[validation]}

    splits, indices, from_test = {}, {}, from_test if scored else {}
    for images, kept, lists in ((train, in_train, from_train), (test, in_test, from_test)):
        for key, positions in lists.items():
            indices[key] = kept[positions]
            splits[key] = images.select(indices[key])
    settings = f"--imbalance {imbalance}, --val-fraction {val_fraction}, {len(skipped)} unreadable"
    _check(splits, f"{dataset} ({settings})")
    tests = {key.removeprefix("test/"): v for key, v in splits.items() if key.startswith("test/")}
    validation = splits.get("validation")
    notes = []
    if skipped:
        notes.append(f"left out unreadable images ({len(skipped)}): {', '.join(map(str, skipped))}")
    if not scored:
        absent = f"no folder {Path(data_dir) / 'test'}"
        notes.append(f"{absent}: nothing is scored; for scores put test/CLASS there")
    if dataset == "folder" and (others := other_files(data_dir)):
        notes.append(f"left out files that are no images ({len(others)}): {_listed(others)}")
    for name, images in tests.items():
        without = _without_images(images, splits["train"])
        if without:
            notes.append(f"{name}: no test images of {without}; scores leave these out")
    if validation is not None and (without := _without_images(validation, splits["train"])):
        share = f"{val_fraction:g} of each class is rounded down"
        notes.append(f"no validation images of {without}: {share}, so that all are trained on")
    return ImbalancedData(dataset, splits["train"], validation, tests, indices, tuple(notes))


def _reader(dataset: str) -> Callable[[Path, str], ImageSet]:
    """The reader of a split, "train" or "test", below a data folder."""

    def folder(data_dir: Path, split: str) -> ImageSet:
        """One's own, whose training images alone suffice."""
        tested = split == "test" or (Path(data_dir) / "test").is_dir()
        required = ("train", "test") if tested else ("train",)
        return image_folder(data_dir, split, required=required, untested_classes=tested)

    readers = {"cub": cub, "folder": folder, "tiny-imagenet": tiny_imagenet}
    return readers.get(dataset, functools.partial(image_tensors, dataset))


def images_of_test_set(
    dataset: str, data_dir: Path, positions: np.ndarray, test_set: str
) -> ImageSet:
    """The images of a run's test set at the (N,) positions that its indices.npz holds.

    UserError for missing or damaged data, and for fewer images than the run had.
    """
    images = _reader(dataset)(data_dir, "train" if test_set == "paper-window" else "test")
    if len(positions) and positions.max() >= len(images):
        raise UserError(f"{data_dir}: {len(images)} images, fewer than the run had")
    return images.select(torch.from_numpy(positions))


@contextlib.contextmanager
def unreadable_remedy() -> Iterator[None]:
    """Adds the flag that leaves an unreadable image out to the error that names it."""
    try:
        yield
    except UserError as error:
        if "not a readable image" not in str(error):
            raise
        remedy = "mend it, or leave it out with --skip-unreadable"
        raise UserError(f"{one_line(error)}; {remedy}") from error


def _listed(values: list) -> str:
    more = f" and {len(values) - MAX_LISTED} more" if len(values) > MAX_LISTED else ""
    return ", ".join(map(str, values[:MAX_LISTED])) + more


def _without_images(images: ImageSet, train: ImageSet) -> str:
    """The classes without an image in a split, with their training images; empty if none."""
    counts = torch.bincount(train.labels, minlength=len(train.class_names)).tolist()
    empty = sorted(set(range(len(counts))) - set(images.labels.tolist()))
    return _listed([f"{train.class_names[k]} ({counts[k]} training images)" for k in empty])


def _readable(files: ImageSet) -> tuple[Tensor, list[Path]]:
    """Positions of the files that can be decoded to the last pixel, and paths of the others."""
    positions, unreadable = [], []
    for i, path in enumerate(tqdm(files.images, desc=f"check {files.name}", disable=None)):
        try:
            read_image(path)
            positions.append(i)
        except UserError:
            unreadable.append(path)
    return torch.tensor(positions, dtype=torch.int64), unreadable


def _lists(
    dataset: str, imbalance: str, labels: Tensor, test_labels: Tensor, num_classes: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Positions of the splits from the training file, and of those from the test file."""
    official = {"test/official": torch.arange(len(test_labels))}
    if imbalance != "paper":
        limits = class_limits(imbalance, torch.bincount(labels, minlength=num_classes))
        return {"train": first_per_class(labels, limits)}, official
    if dataset in IDX_DATASETS:
        listed, window = paper_digits(labels)
        return {"train": listed, "test/paper-window": window}, official
    listed, listed_test = paper_files(labels, test_labels, num_classes)
    return {"train": listed}, {"test/paper-list": listed_test} | official


def stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """(N,) bool: a random `fraction` of each class, rounded down."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for k in labels.unique():
        of_class = (labels == k).nonzero().flatten()
        count = math.floor(len(of_class) * fraction + 1e-9)  # 100 * 0.29 comes out below 29
        drawn[of_class[torch.randperm(len(of_class), generator=generator)[:count]]] = True
    return drawn


def _check(splits: dict[str, ImageSet], where: str) -> None:
    """UserError for a split without images, and for a class without training images."""
    if empty := [name for name, images in splits.items() if len(images) == 0]:
        raise UserError(f"{where}: no images for {', '.join(empty)}")
    present = set(splits["train"].labels.tolist())
    if empty := [name for k, name in enumerate(splits["train"].class_names) if k not in present]:
        some = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise UserError(f"{where}: no images to train on of {len(empty)} classes: {some}")


def indices_digest(indices: Mapping[str, Tensor]) -> str:
    """sha256 over the names, in alphabetical order, and the int64 positions under each."""
    digest = hashlib.sha256()
    for name, positions in sorted(indices.items()):
        digest.update(f"{name}\n{len(positions)}\n".encode())
        digest.update(positions.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
