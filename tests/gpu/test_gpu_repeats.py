"""On the GPU: --deterministic repeats to the last bit, memory is released, errors are one line."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from infocam.explain import main as explain
from infocam.train import main as train_localiser
from mi_estimator.estimate import main as estimate
from pc_softmax.train import main as train

pytestmark = pytest.mark.gpu
REPO = Path(__file__).resolve().parents[2]
DIGITS = ["--dataset", "digits", "--epochs", 2]


def assert_equal_arrays(first: Path, second: Path) -> None:
    expected, found = np.load(first), np.load(second)
    assert set(found.files) == set(expected.files)
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_an_imbalance_run_repeats_in_this_process_and_in_its_own(
    device, run_on, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default, of both
    words = [*DIGITS, "--deterministic"]
    folders = [run_on(device, train, *words) for _ in range(2)]
    assert_equal_arrays(*(folder / "predictions.npz" for folder in folders))
    # As a user starts it: the script itself must set what cuBLAS reads.
    unset = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    words = [*words, "--device", device, "--output-dir", tmp_path / "own"]
    done = subprocess.run(
        [sys.executable, "-m", "pc_softmax.train", *map(str, words)],
        cwd=REPO,
        env=unset | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_equal_arrays(folders[0] / "predictions.npz", tmp_path / "own/predictions.npz")


def test_an_estimate_from_images_repeats(device, run_on):
    words = ["--dataset", "digits", "--max-samples", 300, "--folds", 2, "--epochs", 2]
    folders = [run_on(device, estimate, *words, "--deterministic") for _ in range(2)]
    first, second = ((folder / "pmi.csv").read_bytes() for folder in folders)
    assert first == second


def test_fine_tuning_on_image_files_repeats(device, run_on, pictures):
    words = ["--dataset", "folder", "--data-dir", pictures, "--network", "resnet18"]
    words += ["--image-size", 64, "--weights", "none", "--no-freeze-backbone"]
    words += ["--val-per-class", 2, "--batch-size", 10, "--epochs", 1]
    words += ["--adl", "layer3.0", "--num-workers", 0, "--deterministic"]
    states = [
        torch.load(run_on(device, train_localiser, *words) / "checkpoint.pt", "cpu")["model"]
        for _ in range(2)
    ]
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def allocated() -> int:
    """Bytes on the GPU, without the work space that cuBLAS keeps."""
    gc.collect()
    if hasattr(torch._C, "_cuda_clearCublasWorkspaces"):
        torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def tensors_on_gpu() -> int:
    """How many tensors there are that Python can still reach, or that wait to be collected."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return sum(each.is_cuda for each in tensors)


@pytest.mark.parametrize("entry", ["train", "estimate", "explain"])
def test_memory_is_released_after_an_entry(device, run_on, table, pictures, weights_file, entry):
    """The first run may leave what CUDA's libraries keep for the process; a second adds nothing."""
    words = {
        "train": [train, *DIGITS],
        "estimate": [estimate, table, "--label", "kind", "--epochs", 2, "--folds", 2],
        "explain": [explain, pictures / "test/red/0.png", "--network", "resnet18"],
    }[entry]
    if entry == "explain":
        words += ["--weights", weights_file, "--image-size", 64]
    before = tensors_on_gpu()
    run_on(device, *words)
    assert tensors_on_gpu() == before
    once = allocated()
    run_on(device, *words)
    assert tensors_on_gpu() == before
    assert allocated() < once + 2**14


def test_too_little_memory_is_one_line(device, gpu, user_error, tmp_path):
    if gpu.device.type != "cuda":
        pytest.skip("only a GPU's memory can be limited")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)  # some 8 MB
    words = ["--dataset", "digits", "--batch-size", 1297, "--imbalance", "none"]
    try:
        line = user_error(train, [*words, "--device", device, "--output-dir", tmp_path / "out"])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert line.startswith("error: not enough memory; use a smaller --batch-size")


def test_a_device_that_is_not_there_is_one_line(gpu, user_error, tmp_path):
    if gpu.device.type != "cuda":
        pytest.skip("without a GPU the message is another one")
    words = ["--dataset", "digits", "--device", "cuda:99", "--output-dir", tmp_path / "out"]
    count = torch.cuda.device_count()
    assert user_error(train, words) == f"error: --device cuda:99: there are {count} devices"
