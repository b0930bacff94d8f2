"""Runs that are interrupted on one device and go on on another."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from infocam.train import main as train_localiser
from mi_common.records import RunFolder
from pc_softmax.train import main as train

pytestmark = pytest.mark.gpu
DIGITS = ["--dataset", "digits", "--epochs", 4, "--lr", 1e-3]
SCATTERED = ["--dataset", "scattered-digits", "--images-per-class", 14, "--val-per-class", 4]
SCATTERED += ["--batch-size", 20, "--epochs", 4, "--lr", 1e-4]


@pytest.fixture
def interrupted(run_on, tmp_path, monkeypatch):
    """Starts a run that ends as by Ctrl-C when the checkpoint of its second epoch is written."""

    def start(device: str, main, *words) -> Path:
        saved, save_epoch = [], RunFolder.save_epoch

        def save_and_interrupt(run: RunFolder, *what) -> None:
            save_epoch(run, *what)
            saved.append(run)
            if len(saved) == 2:
                raise KeyboardInterrupt

        folder = tmp_path / "out"
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save_epoch", save_and_interrupt)
            with pytest.raises(SystemExit) as stopped:
                run_on(device, main, *words, folder=folder)
        assert stopped.value.code == 130
        assert not RunFolder(folder).finished
        return folder

    return start


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


ADAMW = ["--optimizer", "adamw", "--lr", 2e-5]
FP16 = ["--precision", "fp16"]  # with the state of the gradients' scale


@pytest.mark.parametrize(
    ("first", "second", "words", "tolerance"),
    [
        ("cpu", "gpu", [], 0.01),
        ("cpu", "gpu", ADAMW, 0.01),
        ("gpu", "cpu", [], 0.01),
        ("gpu", "cpu", ADAMW, 0.01),
        ("gpu", "gpu", [], 0.01),
        ("gpu", "gpu", FP16, 0.1),
    ],
)
def test_a_run_goes_on_as_if_never_interrupted(
    device, run_on, interrupted, first, second, words, tolerance
):
    first, second = (device if each == "gpu" else each for each in (first, second))
    folder = interrupted(first, train, *DIGITS, *words)
    done = losses(folder)
    run_on(second, train, *DIGITS, *words, "--resume", folder=folder)
    whole = run_on(second, train, *DIGITS, *words)
    assert len(losses(folder)) == 4
    assert losses(folder)[:2] == done
    assert losses(folder) == pytest.approx(losses(whole), abs=tolerance)
    expected, found = (np.load(each / "predictions.npz") for each in (whole, folder))
    np.testing.assert_allclose(
        found["official_logits"], expected["official_logits"], atol=tolerance
    )


def test_a_localiser_goes_on_on_the_gpu(device, run_on, interrupted, digits_dir):
    """AdamW with a one-cycle schedule."""
    words = [*SCATTERED, "--data-dir", digits_dir]
    folder = interrupted("cpu", train_localiser, *words)
    run_on(device, train_localiser, *words, "--resume", folder=folder)
    whole = run_on("cpu", train_localiser, *words)
    assert len(losses(folder)) == 4
    assert losses(folder) == pytest.approx(losses(whole), abs=0.01)
    expected, found = (
        torch.load(each / "checkpoint.pt", "cpu", weights_only=True) for each in (whole, folder)
    )
    assert found["scheduler"]["last_epoch"] == expected["scheduler"]["last_epoch"]
    assert found["optimizer"]["param_groups"][0]["lr"] == pytest.approx(
        expected["optimizer"]["param_groups"][0]["lr"]
    )
