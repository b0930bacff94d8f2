"""Half precision and torch.compile on the GPU, against float32 as it is."""

import importlib.util
import json
import os
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from infocam.explain import main as explain
from infocam.train import main as train_localiser
from mi_estimator.estimate import main as estimate
from pc_softmax.train import main as train

pytestmark = pytest.mark.gpu
DIGITS = ["--dataset", "digits", "--imbalance", "none", "--lr", 0.05]
SCATTERED = ["--dataset", "scattered-digits", "--images-per-class", 14, "--val-per-class", 4]
SCATTERED += ["--batch-size", 20, "--epochs", 2]


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def accuracy(folder: Path) -> float:
    return json.loads((folder / "result.json").read_text())["test_sets"]["official"]["accuracy"]


@pytest.fixture(scope="module")
def in_float32(device, run_on) -> Path:
    return run_on(device, train, *DIGITS, "--epochs", 6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_trains_as_well_as_float32(device, run_on, in_float32, precision):
    folder = run_on(device, train, *DIGITS, "--epochs", 6, "--precision", precision)
    assert np.isfinite(losses(folder)).all()
    assert losses(folder)[-1] < 0.2 * losses(folder)[0]
    assert accuracy(in_float32) > 0.9
    assert accuracy(folder) == pytest.approx(accuracy(in_float32), abs=0.04)
    logits = np.load(folder / "predictions.npz")["official_logits"]
    assert logits.dtype == np.float32 and np.isfinite(logits).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_estimates_the_same_information(device, run_on, table, precision):
    words = [table, "--label", "kind", "--folds", 2, "--epochs", 20, "--members", 2]
    words += ["--batch-size", 30]
    values = []
    for each in ("fp32", precision):
        folder = run_on(device, estimate, *words, "--precision", each)
        values.append(json.loads((folder / "estimate.json").read_text())["mutual_information"])
    assert values[0] > 0.4
    assert values[1] == pytest.approx(values[0], abs=0.05)


@pytest.fixture(scope="module")
def localiser(device, run_on, digits_dir) -> Path:
    return run_on(device, train_localiser, *SCATTERED, "--data-dir", digits_dir)


def maps_by(run_on, device, localiser, pictures, *words) -> dict:
    """The maps and scores that explain a picture by the run on scattered digits."""
    words = ["--run", localiser, "--labels", 3, *words]
    folder = run_on(device, explain, pictures / "test/red/0.png", *words)
    return dict(np.load(folder / "0.npz"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_explains_alike(device, run_on, localiser, pictures, precision):
    given = run_on, device, localiser, pictures
    expected, found = maps_by(*given), maps_by(*given, "--precision", precision)
    for name in ("maps", "scores"):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=0.05 * scale)


def needs_a_compiler() -> None:
    """torch.compile builds its kernels' launchers with a C compiler and Python's headers."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler, which torch.compile needs")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("no Python.h, which torch.compile needs")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("no triton, which torch.compile needs on a GPU")


def test_a_compiled_network_trains_to_the_same_logits(device, run_on):
    """One batch an epoch, so that there is one shape to compile for."""
    needs_a_compiler()
    words = [*DIGITS, "--batch-size", 1297, "--epochs", 3]
    folders = [run_on(device, train, *words, flag) for flag in ("--no-compile", "--compile")]
    assert losses(folders[1]) == pytest.approx(losses(folders[0]), abs=1e-2)
    expected, found = (np.load(folder / "predictions.npz") for folder in folders)
    np.testing.assert_allclose(found["official_logits"], expected["official_logits"], atol=0.05)


def test_a_compiled_network_explains_alike(device, run_on, localiser, pictures):
    needs_a_compiler()
    given = run_on, device, localiser, pictures
    expected, found = maps_by(*given), maps_by(*given, "--compile")
    for name in ("maps", "scores"):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3 * scale)
