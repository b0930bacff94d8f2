"""Entries of pc_softmax on the GPU: the numbers of the CPU, but for rounding.

A few steps at a low learning rate: rounding errors of 1e-6 a layer then reach some 1e-4 of the
logits. Another order of samples or another start would move them by 0.1 or more.
"""

import json

import numpy as np
import pandas as pd
import pytest

from pc_softmax.adjust import main as adjust
from pc_softmax.compare import main as compare
from pc_softmax.evaluate import main as evaluate
from pc_softmax.names import LOSSES
from pc_softmax.predict import main as predict
from pc_softmax.train import main as train

pytestmark = pytest.mark.gpu
DIGITS = ["--dataset", "digits", "--epochs", 2, "--lr", 1e-3]


def assert_same_run(folders, *, logits: float) -> None:
    """The same predictions and losses of two run folders, the first the CPU's."""
    expected, found = (np.load(folder / "predictions.npz") for folder in folders)
    assert set(found.files) == set(expected.files)
    for name in expected.files:
        if name.endswith("_logits"):
            np.testing.assert_allclose(found[name], expected[name], atol=logits, err_msg=name)
        elif not name.startswith("head"):
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    lines, gpu_lines = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in folders
    )
    losses, gpu_losses = ([line["loss"] for line in each] for each in (lines, gpu_lines))
    assert gpu_losses == pytest.approx(losses, abs=0.01)
    (score,), (gpu_score,) = (
        json.loads((folder / "result.json").read_text())["test_sets"].values() for folder in folders
    )
    assert gpu_score["accuracy"] == pytest.approx(score["accuracy"], abs=0.01)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "pc-softmax"])
def test_train_by_every_loss(run_on_both, loss):
    more = ["--drw", 1] if loss in ("focal", "ldam") else []
    folders = run_on_both(train, *DIGITS, "--loss", loss, *more)
    assert_same_run(folders, logits=0.1 if loss == "ldam" else 0.01)  # LDAM's are 30 cosines


def test_train_and_evaluate(run_on_both, tmp_path):
    folders = run_on_both(train, *DIGITS, "--val-fraction", 0.1)
    assert_same_run(folders, logits=0.01)
    scores = []
    for number, folder in enumerate(folders):
        words = [folder, "--target-prior", "train", "--output-dir", tmp_path / str(number)]
        evaluate([str(word) for word in words])
        scores.append(pd.read_csv(tmp_path / str(number) / "scores.csv"))
    for name in ("accuracy", "balanced_accuracy", "nll", "mutual_information"):
        assert scores[1][name].item() == pytest.approx(scores[0][name].item(), abs=0.01), name


PICTURES = ["--dataset", "folder", "--network", "resnet18", "--image-size", 64]
PICTURES += ["--batch-size", 12, "--epochs", 2]


def test_train_a_whole_network_on_image_files(run_on_both, pictures):
    words = [*PICTURES, "--data-dir", pictures, "--weights", "none", "--no-freeze-backbone"]
    words += ["--lr", 1e-4, "--num-workers", 2]
    assert_same_run(run_on_both(train, *words), logits=0.01)


def test_train_a_head_on_cached_features(run_on_both, pictures, weights_file):
    words = [*PICTURES, "--data-dir", pictures, "--weights", weights_file, "--freeze-backbone"]
    words += ["--augmented-copies", 1, "--num-workers", 0]
    folders = run_on_both(train, *words, cache=pictures / "features")
    assert_same_run(folders, logits=0.02)


def test_predict_new_pictures_and_adjust_their_logits(
    run_on, run_on_both, pictures, weights_file, tmp_path
):
    words = [*PICTURES, "--data-dir", pictures, "--weights", weights_file, "--freeze-backbone"]
    run = run_on("cpu", train, *words, "--val-fraction", 0.25, "--num-workers", 0)
    words = [run, pictures / "test", "--target-prior", "em", "--num-workers", 0]
    folders = run_on_both(predict, *words)
    expected, found = (np.load(folder / "logits.npz") for folder in folders)
    assert list(found["files"]) == list(expected["files"]) and len(found["files"]) == 12
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=0.02)
    posteriors = []
    for number, folder in enumerate(folders):
        words = [folder / "logits.npz", "--target-prior", "uniform"]
        adjust([str(word) for word in (*words, "--output-dir", tmp_path / str(number))])
        posteriors.append(np.load(tmp_path / str(number) / "posterior.npz")["log_posterior"])
    assert np.exp(posteriors[0]).sum(axis=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(posteriors[1], posteriors[0], atol=0.05)


def test_compare(run_on_both):
    losses = ["softmax", "pc-softmax", "ldam-drw", "crt"]
    words = ["--dataset", "digits", "--epochs", 2, "--losses", *losses, "--seeds", 0]
    folders = run_on_both(compare, *words, "--num-workers", 0)
    rows, gpu_rows = (pd.read_csv(folder / "results.csv") for folder in folders)
    key = ["loss", "rule", "seed", "n_train", "n_test"]
    rows, gpu_rows = (each.sort_values(key, ignore_index=True) for each in (rows, gpu_rows))
    assert gpu_rows[key].to_dict() == rows[key].to_dict()
    assert set(rows["loss"]) == set(losses)
    apart = (gpu_rows["balanced_accuracy"] - rows["balanced_accuracy"]).abs()
    assert apart.max() < 0.03
