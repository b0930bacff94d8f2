"""Two small data sets with boxes, a trained run on each, and a slow evaluation of their maps."""

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from explain_files import NAMES
from PIL import Image
from sklearn.datasets import load_digits
from slow_evaluation import TrainedRun
from torch import nn

from infocam import train
from infocam.data import load as data
from infocam.evaluate import main as evaluate
from infocam.explain import main as explain
from infocam.figures import evidence
from infocam.models import classifiers
from infocam.models.classifiers import Classifier
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec

WNIDS = ["n04", "n02", "n03", "n01"]  # in no order, as in the real file
COLOURS = [(220, 40, 40), (40, 200, 60), (60, 60, 230), (230, 220, 50)]
TRAIN_EACH, VAL_EACH = 6, 3
DIGITS_WINDOW = 1000  # of the 1,300 generated training digits; the others are for validation


def write_idx(path: Path, values: np.ndarray) -> None:
    """The IDX format: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory) -> Path:
    """scikit-learn's real 8 x 8 digits as MNIST files: 1,300 for training and 497 for test."""
    digits = load_digits()
    images = np.zeros((len(digits.images), 28, 28), np.uint8)
    images[:, 2:26, 2:26] = (digits.images * 15.9).repeat(3, axis=1).repeat(3, axis=2)
    root = tmp_path_factory.mktemp("digits")
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    for stem, part in (("train", slice(0, 1300)), ("t10k", slice(1300, None))):
        write_idx(folder / f"{stem}-images-idx3-ubyte", images[part])
        write_idx(folder / f"{stem}-labels-idx1-ubyte", digits.target[part])
    return root


@pytest.fixture
def small_window(monkeypatch) -> None:
    """Puts the border between training and validation digits inside the 1,300 generated ones."""
    monkeypatch.setattr(data, "DIGITS_TRAIN_WINDOW", DIGITS_WINDOW)


def write_picture(path: Path, k: int, rng: np.random.Generator) -> list[int]:
    """Noise with a square in the class's colour; returns the square's box."""
    side = rng.integers(20, 60)
    x, y = rng.integers(0, 64 - side, 2)
    pixels = rng.integers(0, 100, (64, 64, 3)).astype(np.uint8)
    pixels[y : y + side, x : x + side] = COLOURS[k]
    Image.fromarray(pixels).save(path, quality=95)
    return [int(v) for v in (x, y, x + side - 1, y + side - 1)]


def write_tiny_imagenet(root: Path) -> None:
    """The official layout with four classes; validation images in another order."""
    rng = np.random.default_rng(0)
    folder = root / "tiny-imagenet-200"
    for wnid in WNIDS:
        (folder / f"train/{wnid}/images").mkdir(parents=True)
    (folder / "val/images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    names = ["red, scarlet", "green", "blue", "yellow"]
    lines = [f"{wnid}\t{name}\n" for wnid, name in zip(WNIDS, names, strict=True)]
    (folder / "words.txt").write_text("".join(sorted(lines)))
    for k, wnid in enumerate(WNIDS):
        lines = []
        for i in range(TRAIN_EACH):
            box = write_picture(folder / f"train/{wnid}/images/{wnid}_{i}.JPEG", k, rng)
            lines.append("\t".join(map(str, [f"{wnid}_{i}.JPEG", *box])))
        (folder / f"train/{wnid}/{wnid}_boxes.txt").write_text("\n".join(lines) + "\n")
    lines = []
    for i, k in enumerate(rng.permutation(np.repeat(np.arange(4), VAL_EACH))):
        box = write_picture(folder / f"val/images/val_{i}.JPEG", k, rng)
        lines.append("\t".join(map(str, [f"val_{i}.JPEG", WNIDS[k], *box])))
    (folder / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory) -> Path:
    """A mini Tiny-ImageNet: 4 classes, 6 training images each and 12 validation images."""
    root = tmp_path_factory.mktemp("tiny")
    write_tiny_imagenet(root)
    return root


@pytest.fixture
def corrupt_tiny(tiny_dir, tmp_path_factory):
    """A copy of the mini Tiny-ImageNet whose named file is no picture; the copy and the file."""

    def make(name: str) -> tuple[Path, Path]:
        root = tmp_path_factory.mktemp("corrupt")
        shutil.copytree(tiny_dir / "tiny-imagenet-200", root / "tiny-imagenet-200")
        file = root / "tiny-imagenet-200" / name
        file.write_bytes(file.read_bytes()[:100])
        return root, file

    return make


def words_for(dataset: str, data_dir: Path, folder: Path, *more) -> list[str]:
    words = ["--dataset", dataset, "--data-dir", data_dir, "--output-dir", folder]
    words += ["--device", "cpu", "--num-workers", 0, "--epochs", 2, "--seed", 1]
    return [str(word) for word in [*words, *more]]


@pytest.fixture(scope="session")
def digits_words(digits_dir):
    """The command line of a small run on scattered digits into a folder."""
    sizes = ["--images-per-class", 14, "--val-per-class", 4, "--batch-size", 20]
    return lambda folder, *more: words_for("scattered-digits", digits_dir, folder, *sizes, *more)


@pytest.fixture(scope="session")
def tiny_words(tiny_dir):
    """The command line of a small run on the mini Tiny-ImageNet into a folder."""
    sizes = ["--images-per-class", 6, "--val-per-class", 2]
    sizes += ["--batch-size", 6, "--lr", 0.01, "--epochs", 10]
    return lambda folder, *more: words_for("tiny-imagenet", tiny_dir, folder, *sizes, *more)


@pytest.fixture(scope="session")
def digits_run(digits_dir, digits_words, tmp_path_factory) -> TrainedRun:
    """A finished run on scattered digits; not to be written to."""
    folder = tmp_path_factory.mktemp("digits-run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "DIGITS_TRAIN_WINDOW", DIGITS_WINDOW)
        train.main(digits_words(folder))
    return TrainedRun(digits_dir, folder, digits_words(folder))


@pytest.fixture(scope="session")
def tiny_run(tiny_dir, tiny_words, tmp_path_factory) -> TrainedRun:
    """A finished run on the mini Tiny-ImageNet; not to be written to."""
    folder = tmp_path_factory.mktemp("tiny-run") / "run"
    train.main(tiny_words(folder))
    return TrainedRun(tiny_dir, folder, tiny_words(folder))


@pytest.fixture(scope="session")
def evaluate_words():
    """The command line of `infocam.evaluate` for a run, into a folder."""

    def words(run: TrainedRun, folder: Path, *more) -> list[str]:
        words = [run.folder, "--data-dir", run.data_dir, "--output-dir", folder]
        words += ["--device", "cpu", "--num-workers", 0]
        return [str(word) for word in [*words, *more]]

    return words


def slow_box(values: np.ndarray, threshold: float, side: int) -> tuple[int, ...]:
    resized = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
    low, high = resized.min(), resized.max()
    if low == high:
        return 0, 0, 0, 0
    levels = np.floor((resized - low) / (high - low) * 255).astype(np.uint8)
    mask = (levels > int(threshold * 255)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, x + w - 1, y + h - 1


def slow_hit(box: tuple[int, ...], truth: np.ndarray) -> bool:
    a, b = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    for canvas, (x0, y0, x1, y1) in ((a, box), (b, truth)):
        canvas[y0 : y1 + 1, x0 : x1 + 1] = True
    return 2 * (a & b).sum() >= (a | b).sum()


@pytest.fixture(scope="session")
def slow_hits():
    """(N, 100) hits of a method at each hundredth, and (N,) whether the argmax is the label."""

    def compute(features, head, labels, boxes, method) -> tuple[np.ndarray, np.ndarray]:
        weights, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
        hits, correct = [], []
        for image, y, (truth,) in zip(features, labels.tolist(), boxes, strict=True):
            maps = np.stack([(w[:, None, None] * image).sum(axis=0) for w in weights])
            logits = maps.mean(axis=(1, 2)) + bias
            correct.append(logits.argmax() == y)
            values = maps[y]
            if method == "infocam":
                values = maps[y] - np.delete(maps, y, axis=0).mean(axis=0)
            if method == "infocam+":
                others = [k for k in range(len(maps)) if k != y]
                values = maps[y] - maps[min(others, key=lambda k: logits[k])]
            hits.append([slow_hit(slow_box(values, t / 100, 64), truth) for t in range(100)])
        return np.array(hits), np.array(correct)

    return compute


@pytest.fixture
def backbone_must_rest(monkeypatch) -> None:
    """From here on `infocam.evaluate` fails if it runs the network's backbone."""
    build = classifiers.build_network

    def built(*args, **options):
        network = build(*args, **options)

        def forward(images: torch.Tensor) -> torch.Tensor:
            raise AssertionError("the backbone ran, although its maps are cached")

        network.backbone.forward = forward
        return network

    monkeypatch.setattr(classifiers, "build_network", built)


@pytest.fixture(scope="session")
def tiny_evaluation(tiny_run, evaluate_words, tmp_path_factory):
    """The folder of an evaluation of the Tiny-ImageNet run; not to be written to."""
    folder = tmp_path_factory.mktemp("tiny-evaluation") / "out"
    evaluate(evaluate_words(tiny_run, folder, "--overlays", 5, "--gallery", 2, "--save-maps"))
    return folder


@pytest.fixture(scope="session")
def second_run(tiny_words, tmp_path_factory):
    """The folder of a run on the mini Tiny-ImageNet with another seed."""
    folder = tmp_path_factory.mktemp("second") / "run"
    train.main(tiny_words(folder, "--seed", 2))
    return folder


@pytest.fixture
def small_imagenet(monkeypatch) -> Classifier:
    """Seven classes of an untrained network in place of ImageNet's, and coarse figures."""
    monkeypatch.setattr(evidence, "DPI", 20)
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.ReLU())
    network = GlobalAveragePoolClassifier(backbone, 8, 7, InputSpec(16)).eval()
    classifier = Classifier(
        network, network, NAMES, torch.full((7,), 1 / 7).log(), torch.full((7,), 1 / 7).log()
    )
    monkeypatch.setattr(classifiers, "imagenet_classifier", lambda *_, **__: classifier)
    return classifier


@pytest.fixture
def picture(tmp_path):
    """Writes a picture under a name and returns its path."""

    def make(name: str = "cat.png", size: tuple[int, int] = (48, 32)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return path

    return make


@pytest.fixture
def run_explain(tmp_path, capsys):
    """Runs the command into a folder of its own; gives the folder and what was printed."""

    def call(*words, folder: str = "out"):
        capsys.readouterr()
        words = [*words, "--output-dir", tmp_path / folder, "--device", "cpu"]
        explain([str(word) for word in words])
        return tmp_path / folder, capsys.readouterr().out

    return call
