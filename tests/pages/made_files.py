"""What the pages' commands read and a fresh clone does not hold: pictures, tables, archives."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from PIL import Image

from tests.cub_files import write_cub

PHOTOGRAPHS = Path(sklearn.__file__).parent / "datasets/images"
NETWORK_SIZE = 224  # pixels; a square cut out of a photograph
CLASSES = 24  # of Tiny-ImageNet; `lowest:20` needs more than 20
TRAINING_IMAGES, VALIDATION_IMAGES = 32, 10  # of each
ARCHIVE = "tiny-imagenet-200.zip"

# What the Python blocks leave to the reader; also for the test of the installed packages.
INPUTS = """
import numpy as np, torch
rng = np.random.default_rng(0)
y = rng.permutation(np.arange(60) % 3)
x = rng.normal(size=(60, 2)) + 2 * y[:, None]
x_train, y_train, x_test, y_test = x[:40], y[:40], x[40:], y[40:]
labels = train_labels = torch.from_numpy(y)
num_classes, logits = 3, torch.from_numpy(x @ rng.normal(size=(2, 3)))
log_target_prior = torch.full((3,), 1 / 3).log()
"""
TRAINER_INPUTS = """
import torch
from transformers import Trainer, TrainingArguments
from pc_softmax.losses import PCSoftmaxLoss
labels, num_classes = torch.arange(12) % 3, 3
model, data = torch.nn.Linear(2, 3), [{"x": torch.zeros(2), "labels": y} for y in labels]
arguments = TrainingArguments(output_dir="runs/trainer", use_cpu=True, report_to="none")
"""


def inputs_of(block: str) -> str:
    """The lines that a Python block needs before it."""
    return TRAINER_INPUTS if "Trainer(" in block else INPUTS


def make_files(folder: Path, data_dir: Path) -> None:
    """Writes them into an empty working folder; data sets are those of another data folder.

    MNIST and Fashion-MNIST are copied where they are there; otherwise the commands download them.
    """
    for name in ("MNIST", "FashionMNIST"):
        if (data_dir / name).is_dir():
            shutil.copytree(data_dir / name, folder / "data" / name)
    write_pictures(folder)
    write_tables(folder)
    write_cub(folder / "data", train=[12, 32, 9, 10], test=[6, 8, 4, 16])


def write_pictures(folder: Path) -> None:
    """Photographs by the names of the pages, and squares of two photographs as two classes."""
    rng, photographs = np.random.default_rng(0), {}
    for name in ("china", "flower"):
        with Image.open(PHOTOGRAPHS / f"{name}.jpg") as image:
            photographs[name] = image.convert("RGB")
    for name in ("photo.jpg", "astronaut.png", "camera.png", "coffee.png"):
        photographs["flower"].save(folder / name)
    for path in ("holiday/beach.jpg", "more/2024/hill.jpg"):
        (folder / path).parent.mkdir(parents=True)
        photographs["china"].save(folder / path)

    def squares(into: Path, count: int, *names: str) -> None:
        into.mkdir(parents=True)
        for name in names:
            width, height = photographs[name].size
            for i in range(count):
                left, top = rng.integers(0, (width - NETWORK_SIZE, height - NETWORK_SIZE))
                box = (left, top, left + NETWORK_SIZE, top + NETWORK_SIZE)
                photographs[name].crop(box).save(into / f"{name}-{i}.jpg")

    for name in photographs:
        squares(folder / "pictures/train" / name, 20, name)
        squares(folder / "pictures/test" / name, 5, name)
        squares(folder / "MY/IMAGES/train" / name, 20, name)
    squares(folder / "new_pictures", 5, *photographs)
    squares(folder / "photos", 5, *photographs)


def write_tables(folder: Path) -> None:
    """Logits of a classifier of three classes, with labels for validation; a prior."""
    rng = np.random.default_rng(0)
    for name, count in (("validation", 90), ("logits", 60)):
        labels = np.arange(count) % 3
        logits = rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]
        table = pd.DataFrame(logits, columns=["ant", "bee", "cow"])
        if name == "validation":
            table["label"] = table.columns[labels]
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "prior.csv").write_text("class,probability\nchina,0.3\nflower,0.7\n")


def shared_archive() -> Path:
    """Tiny-ImageNet's archive in the folder that PCS_SHARED_DATA names; exits where it is not."""
    archive = Path(os.environ.get("PCS_SHARED_DATA", "")) / ARCHIVE
    if not archive.is_file():
        print(f"no {archive}; set PCS_SHARED_DATA to the folder of {ARCHIVE}", file=sys.stderr)
        sys.exit(2)
    return archive


def write_archive(target: Path) -> None:
    """A part of the archive of Tiny-ImageNet: the first classes and images of each."""
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(shared_archive()) as source:
        names = {name.partition("/")[2]: name for name in source.namelist()}

        def lines(file: str) -> list[str]:
            return source.read(names[file]).decode().splitlines()

        wnids = lines("wnids.txt")[:CLASSES]
        texts = {"wnids.txt": wnids, "words.txt": lines("words.txt")}
        rows = [(line.split("\t")[1], line) for line in lines("val/val_annotations.txt")]
        validation = []
        for wnid in wnids:
            of_class = [line for name, line in rows if name == wnid]
            validation += of_class[:VALIDATION_IMAGES]
        texts["val/val_annotations.txt"] = validation
        images = [f"val/images/{line.split()[0]}" for line in validation]
        for wnid in wnids:
            file = f"train/{wnid}/{wnid}_boxes.txt"
            texts[file] = lines(file)[:TRAINING_IMAGES]
            images += [f"train/{wnid}/images/{line.split()[0]}" for line in texts[file]]
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w") as archive:
            for file, text in texts.items():
                archive.writestr(f"tiny-imagenet-200/{file}", "\n".join(text) + "\n")
            for file in images:
                archive.writestr(f"tiny-imagenet-200/{file}", source.read(names[file]))
    partial.replace(target)
