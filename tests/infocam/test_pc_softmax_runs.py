"""Runs of `pc_softmax.train` as classifiers: the same logits, as means of class activation maps."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from infocam import explain
from infocam.maps.photographs import explain as explain_image
from infocam.models.pc_softmax_runs import classifier_of_run
from mi_common.information import pointwise_mutual_information
from mi_common.runtime import Runtime
from pc_softmax import train
from pc_softmax.trained import TrainedNetwork

CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of finished runs on scikit-learn's digits, by the last words of their commands."""
    root, folders = tmp_path_factory.mktemp("pc-runs"), {}
    common = ["--dataset", "digits", "--epochs", 1, "--batch-size", 256, "--device", "cpu"]
    for name, words in {
        "linear": ["--loss", "pc-softmax"],
        "cosine": ["--loss", "softmax", "--head", "cosine", "--scale", 12],
        "crt": ["--loss", "softmax", "--retrain-head", "--init", root / "linear"],
    }.items():
        folders[name] = root / name
        words = [*common, *words, "--num-workers", 0, "--output-dir", folders[name]]
        train.main([str(word) for word in words])
    return folders


@pytest.fixture
def digit() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", ["linear", "cosine", "crt"])
def test_a_run_gives_the_logits_of_its_own_package_and_maps_that_average_to_them(runs, digit, name):
    network = TrainedNetwork.load(runs[name], runtime=CPU)
    logits = network.logits(network.transform(digit)[None]).numpy()[0]
    classifier = classifier_of_run(runs[name], runtime=CPU)
    assert classifier.grey and classifier.class_names == [str(k) for k in range(10)]
    explanation = explain_image(digit, classifier, ["cam"], labels=range(10), runtime=CPU)
    np.testing.assert_allclose(explanation.scores, logits, rtol=1e-4, atol=1e-4)
    bias = classifier.network.head.bias.detach().numpy()
    np.testing.assert_allclose(
        explanation.maps.mean(axis=(1, 2)) + bias, logits, rtol=1e-4, atol=1e-4
    )
    assert (name == "cosine") == (not bias.any())

    prior = explain_image(digit, classifier, ["cam"], prior=True, runtime=CPU)
    pc_logits = network.predictions.pc_softmax_logits(logits[None])
    log_prior = torch.from_numpy(network.predictions.log_prior)
    expected = pointwise_mutual_information(torch.from_numpy(pc_logits), log_prior)[0]
    np.testing.assert_allclose(prior.scores, expected, rtol=1e-4, atol=1e-4)


def test_the_command_takes_the_run_without_its_data(runs, digit, tmp_path):
    shutil.copytree(runs["cosine"], tmp_path / "moved")
    config = json.loads((tmp_path / "moved/config.json").read_text())
    config["flags"]["data_dir"] = "gone"
    (tmp_path / "moved/config.json").write_text(json.dumps(config))
    digit.save(tmp_path / "digit.png")
    words = [tmp_path / "digit.png", "--run", tmp_path / "moved", "--output-dir", tmp_path / "out"]
    explain.main([str(word) for word in [*words, "--device", "cpu"]])
    with np.load(tmp_path / "out/digit.npz") as arrays:
        assert arrays["maps"].shape[0] == 2 and arrays["class_names"].tolist() == [*"0123456789"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "paper-net"}, "paper-net, has no feature maps; train with"),
        ({"freeze_backbone": None, "retrain_head": None}, "33 parameters do not"),
        ({"network": 3}, "config.json: damaged; train again"),
    ],
)
def test_a_run_that_has_no_maps_or_is_damaged_is_refused(
    runs, digit, tmp_path, user_error, change, said
):
    shutil.copytree(runs["crt"], tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["flags"] |= {"init": None} | change
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    digit.save(tmp_path / "digit.png")
    words = [tmp_path / "digit.png", "--run", tmp_path / "run", "--output-dir", tmp_path / "out"]
    assert said in user_error(explain.main, [*words, "--device", "cpu"])
    assert not (tmp_path / "out").exists()
