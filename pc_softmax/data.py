"""Image sets made imbalanced: the part to train on, a part to validate, and named test sets.

    data = load_data("cifar10", Path("data"), imbalance="exp:100")

Test sets: `official`, and with the paper's imbalance the original's own list, imbalanced like its
training list: `paper-window` (MNIST family) or `paper-list` (image files).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mi_common.datasets import IDX_DATASETS, image_tensors
from mi_common.errors import UserError
from mi_common.fingerprints import fingerprint
from mi_common.image_files import ImageFiles, cub, image_folder, readable, tiny_imagenet
from pc_softmax.imbalance import class_limits, first_per_class, paper_digits, paper_files

FILE_DATASETS = ("tiny-imagenet", "cub", "folder")
DATASETS = (*IDX_DATASETS, "digits", "cifar10", "cifar100", *FILE_DATASETS)
PAPER_DATASETS = (*IDX_DATASETS, "cub", "tiny-imagenet")


@dataclass(frozen=True)
class Part:
    """Images with their labels."""

    images: Tensor | ImageFiles  # (N, C, H, W) uint8, or N files
    labels: Tensor  # (N,) int64, 0..K-1

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> "Part":
        """The images of the given positions, in their order."""
        files = isinstance(self.images, ImageFiles)
        images = self.images.select(positions) if files else self.images[positions]
        return Part(images, self.labels[positions])


@dataclass(frozen=True)
class ImbalancedData:
    """An image set as an experiment uses it.

    Attributes:
        validation: taken out of what `train` would be; None where none was asked for.
        tests: by name; the imbalanced list, where there is one, before "official".
        class_names: K.
        indices: ascending int64 positions of the images of every part, under "train",
            "validation" and "test/NAME"; in the official test file for "test/official" and
            "test/paper-list", in the official training file for all others.
        skipped: image files left out because they cannot be read.
    """

    name: str
    train: Part
    validation: Part | None
    tests: dict[str, Part]
    class_names: list[str]
    indices: dict[str, Tensor]
    skipped: tuple[Path, ...] = ()

    def fingerprints(self) -> dict[str, str]:
        """Of every part by name; see `mi_common.fingerprints`."""
        parts = {"train": self.train, **{f"test {name}": part for name, part in self.tests.items()}}
        if self.validation is not None:
            parts["validation"] = self.validation
        return {name: fingerprint(part.images, part.labels) for name, part in parts.items()}


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
        dataset: one of DATASETS; "folder" is `data_dir` itself, see `image_folder`.
        imbalance: as `parse_imbalance` gives it; "paper" is the rule of the original's lists.
        val_fraction: share of each class of the imbalanced list, rounded down, that is drawn for
            validation, 0 to below 1.
        seed: of that draw; nothing else here is left to chance.
        skip_unreadable: reads every image file once and goes on as if those that fail were not
            there. Without it, whoever reads such a file later gets a UserError.

    Raises:
        UserError: missing or damaged data, a class without training images, "paper" for a data set
            that it does not exist for, a validation part without images, or `skip_unreadable` for
            a data set that is not made of image files.
        ValueError: another data set, imbalance or fraction.
    """
    if dataset not in DATASETS:
        raise ValueError(f"{dataset}: want one of {', '.join(DATASETS)}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction {val_fraction}: want 0 to below 1")
    if imbalance == "paper" and dataset not in PAPER_DATASETS:
        raise UserError(
            f"--imbalance paper: not for {dataset}, only for {', '.join(PAPER_DATASETS)}; "
            "use none, step:RATIO or exp:RATIO"
        )
    if skip_unreadable and dataset not in FILE_DATASETS:
        raise UserError(
            f"--skip-unreadable: not for {dataset}, only for {', '.join(FILE_DATASETS)}"
        )

    train, class_names = _read(dataset, data_dir, "train")
    test, _ = _read(dataset, data_dir, "test")
    if len(class_names) < 2:
        raise UserError(f"{dataset}: {len(class_names)} class; a classifier needs two or more")
    in_train, in_test, skipped = torch.arange(len(train)), torch.arange(len(test)), []
    if skip_unreadable:
        (in_train, bad_train), (in_test, bad_test) = _usable(train.images), _usable(test.images)
        skipped = bad_train + bad_test
    labels, test_labels = train.labels[in_train], test.labels[in_test]
    from_train, from_test = _lists(dataset, imbalance, labels, test_labels, len(class_names))
    if val_fraction:
        listed = from_train["train"]
        drawn = stratified(labels[listed], val_fraction, seed)
        from_train |= {"train": listed[~drawn], "validation": listed[drawn]}

    from_train = {key: in_train[positions] for key, positions in from_train.items()}
    from_test = {key: in_test[positions] for key, positions in from_test.items()}
    parts = {key: train.select(positions) for key, positions in from_train.items()}
    parts |= {key: test.select(positions) for key, positions in from_test.items()}
    settings = f"--imbalance {imbalance}, --val-fraction {val_fraction}, {len(skipped)} unreadable"
    _check(parts, class_names, f"{dataset} ({settings})")
    return ImbalancedData(
        dataset,
        parts["train"],
        parts.get("validation"),
        {key.removeprefix("test/"): part for key, part in parts.items() if key.startswith("test/")},
        class_names,
        from_train | from_test,
        tuple(skipped),
    )


def _read(dataset: str, data_dir: Path, split: str) -> tuple[Part, list[str]]:
    """One official split and the names of the classes; of Tiny-ImageNet, val is the test split."""
    if dataset not in FILE_DATASETS:
        data = image_tensors(dataset, data_dir, split)
        return Part(data.images, data.labels), data.class_names
    if dataset == "tiny-imagenet":
        files = tiny_imagenet(data_dir, "train" if split == "train" else "val")
    else:
        files = (cub if dataset == "cub" else image_folder)(data_dir, split)
    return Part(files, files.labels), files.class_names


def _usable(files: ImageFiles) -> tuple[Tensor, list[Path]]:
    """Positions of the readable files, and the paths of the others."""
    _, unreadable = readable(files)
    bad = set(unreadable)
    positions = [i for i, path in enumerate(files.paths) if path not in bad]
    return torch.tensor(positions, dtype=torch.int64), unreadable


def _lists(
    dataset: str, imbalance: str, labels: Tensor, test_labels: Tensor, num_classes: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Positions of the parts that come from the training file, and of those from the test file."""
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
        own = (labels == k).nonzero().flatten()
        count = math.floor(len(own) * fraction + 1e-9)  # 100 * 0.29 comes out below 29
        drawn[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return drawn


def _check(parts: dict[str, Part], class_names: list[str], where: str) -> None:
    """UserError for a part without images, and for a class that has none to train on."""
    if empty := [key for key, part in parts.items() if len(part) == 0]:
        raise UserError(f"{where}: no images for {', '.join(empty)}")
    there = set(parts["train"].labels.tolist())
    if empty := [name for k, name in enumerate(class_names) if k not in there]:
        some = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise UserError(f"{where}: no images to train on of {len(empty)} classes: {some}")


def indices_digest(indices: Mapping[str, Tensor]) -> str:
    """sha256 over the names, in alphabetical order, and the int64 positions under each."""
    digest = hashlib.sha256()
    for name, positions in sorted(indices.items()):
        digest.update(f"{name}\n{len(positions)}\n".encode())
        digest.update(positions.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
