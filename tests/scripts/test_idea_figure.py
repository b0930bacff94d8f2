"""The figure of the idea: its numbers are those of the committed rows and of the picture."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from infocam.models import classifiers
from infocam.models.classifiers import Classifier
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.files import read_json
from scripts import idea_figure, idea_panels
from scripts.provenance import PICTURES

NAMES = ["cup", "plate", "airliner", "spoon"]


def heights(axes: plt.Axes) -> dict[str, list[float]]:
    """The drawn means by name of the legend."""
    containers = [c for c in axes.containers if c.get_label() != "_nolegend_"]
    return {c.get_label(): c[0].get_ydata().tolist() for c in containers}


def test_the_numbers_are_those_of_the_rows():
    _, (left, right) = plt.subplots(1, 2)
    idea_panels.draw_estimates(left)
    rows = pd.read_csv("resources/mi_estimator.csv").query("task == 'gaussian-d5-imbalanced'")
    rows = rows[rows["estimator"] == "softmax-log-k"]
    drawn = heights(left)["softmax + log K"][2]
    assert drawn == pytest.approx(np.mean(rows["estimate"] - rows["truth"]))
    idea_panels.draw_accuracies(right)
    rows = pd.read_csv("resources/pc_softmax_tiny_imagenet.csv").query("test_set == 'official'")
    rows = rows[rows["rule"] == "as trained"].groupby("loss")["balanced_accuracy"].mean()
    gain = heights(right)["PC-softmax"][1]
    assert gain == pytest.approx(100 * (rows["pc-softmax"] - rows["softmax"]))
    plt.close("all")


def test_the_figure_is_written(tmp_path, monkeypatch):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.ReLU())
    network = GlobalAveragePoolClassifier(backbone, 8, len(NAMES), InputSpec(16)).eval()
    prior = torch.full((4,), 0.25).log()
    made = Classifier(network, network, NAMES, prior, prior)
    monkeypatch.setattr(classifiers, "imagenet_classifier", lambda *_, **__: made)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cup.png")
    monkeypatch.setattr(idea_figure, "OUTPUT", tmp_path / "idea.png")
    idea_figure.main([str(tmp_path / "cup.png")])
    assert len(read_json(tmp_path / PICTURES)["idea.png"]) == 3
    with Image.open(tmp_path / "idea.png") as figure:
        assert figure.size == (1040, 660)
