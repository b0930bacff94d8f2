"""A GPU or the reason why there is none, small data sets, and entries run in this process.

Without a GPU the tests skip; with `-m gpu`, which asks for them alone, they fail.
`PCS_GPU_TESTS_DEVICE=cpu` tries the tests themselves where there is no GPU.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from infocam.data import load as data
from mi_common.runtime import Runtime, setup
from tests.idx_files import write_mnist

DEVICE = os.environ.get("PCS_GPU_TESTS_DEVICE", "cuda")
COLOURS = {"blue": (60, 60, 230), "green": (40, 200, 60), "red": (220, 40, 40)}
DIGITS_WINDOW = 1000  # of the 1,300 training digits below; the others are validation digits

# cuBLAS reads it once a process; a script that is run with --deterministic sets it by itself.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(scope="session")
def device(request) -> Iterator[str]:
    """The word for --device. Convolutions are in full float32 as long as a test has it."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        asked = request.config.option.markexpr == "gpu"
        (pytest.fail if asked else pytest.skip)("no CUDA device here")
    if DEVICE.startswith("cuda"):
        torch.cuda.init()  # so that memory can be asked for before the first tensor
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield DEVICE
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def global_settings() -> Iterator[None]:
    """Takes back what entries set for the whole process."""
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture(scope="session")
def gpu(device) -> Runtime:
    return setup(device)


@pytest.fixture(scope="session")
def run_on(tmp_path_factory) -> Callable[..., Path]:
    """Runs an entry on a device, checks that it used it, and returns its output folder."""

    def run(device: str, main: Callable, *words, folder: Path | None = None) -> Path:
        folder = folder or tmp_path_factory.mktemp("run") / "out"
        on_gpu = device.startswith("cuda")
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        main([str(word) for word in (*words, "--device", device, "--output-dir", folder)])
        assert not on_gpu or torch.cuda.max_memory_allocated() > before, "the GPU did nothing"
        return folder

    return run


@pytest.fixture(scope="session")
def run_on_both(device, run_on) -> Callable[..., tuple[Path, Path]]:
    """Output folders of the same command on the CPU and on the device.

    `cache` is deleted before each, because cached features serve every device.
    """

    def run(main: Callable, *words, cache: Path | None = None) -> tuple[Path, Path]:
        folders = []
        for each in ("cpu", device):
            if cache is not None:
                shutil.rmtree(cache, ignore_errors=True)
            folders.append(run_on(each, main, *words))
        return tuple(folders)

    return run


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """360 samples of three classes whose means are two standard deviations apart."""
    rng = np.random.default_rng(0)
    kinds = np.arange(360) % 3
    features = rng.normal(size=(360, 4)) + 2 * kinds[:, None] * [1, 0, 0, 0]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    frame = pd.DataFrame(features, columns=list("abcd"))
    frame.assign(kind=np.array(["x", "y", "z"])[kinds]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of one's own with boxes.csv: squares of three colours on noise, 12 + 4 a class."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = ["image,x0,y0,x1,y1"]
    for part, count in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                side = rng.integers(24, 48)
                x, y = rng.integers(0, 64 - side, 2)
                pixels = rng.integers(0, 100, (64, 64, 3)).astype(np.uint8)
                pixels[y : y + side, x : x + side] = colour
                Image.fromarray(pixels).save(folder / f"{number}.png")
                corners = (x, y, x + side - 1, y + side - 1)
                lines.append(f"{part}/{name}/{number}.png,{','.join(map(str, corners))}")
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session")
def digits_files(tmp_path_factory) -> Path:
    """scikit-learn's digits as MNIST files: 1,300 for training and 497 for test."""
    digits = load_digits()
    images = np.zeros((len(digits.images), 28, 28), np.uint8)
    images[:, 2:26, 2:26] = (digits.images * 15.9).repeat(3, axis=1).repeat(3, axis=2)
    splits = [(images[part], digits.target[part]) for part in (slice(1300), slice(1300, None))]
    return write_mnist(tmp_path_factory.mktemp("digits"), *splits)


@pytest.fixture(scope="module")
def digits_dir(digits_files) -> Iterator[Path]:
    """Those files, while the window of the training digits is inside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "DIGITS_TRAIN_WINDOW", DIGITS_WINDOW)
        yield digits_files


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> Path:
    """A state dict of ResNet-18 with a head that looks trained; no network is needed for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.resnet18()
    with torch.no_grad():
        network.fc.weight *= 5
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.save(network.state_dict(), path)
    return path
