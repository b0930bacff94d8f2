"""The maps of a split, and the figure of the thresholds."""

import numpy as np
import pandas as pd
import torch
from slow_evaluation import DIGITS, network_of

from infocam.data.load import load_splits
from infocam.figures import plots
from infocam.localise import Maps, localise
from infocam.scoring.protocols import PROTOCOLS
from mi_common.training import ImageClassifier


def test_figure_shows_percent_at_each_threshold_and_marks_the_chosen(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    curves = pd.DataFrame(
        {
            "method": ["cam"] * 6,
            "region": [1] * 3 + [3] * 3,
            "threshold": [0, 0.1, 0.2] * 2,
            "gt_known": [0.5, 0, 1, 0.1, 0.1, 0.1],
        }
    )
    rows = pd.DataFrame(
        [
            ("whole-image", "off", "none", 1.0, 0.25),
            ("centre-box", "off", "validation", 0.8, 0.75),
            ("centre-box", "off", "oracle", 0.7, 0.8),
            ("cam", "off", "validation", 0.2, 1.0),
            ("cam", "off", "oracle", 0.2, 1.0),
            ("cam", "validation", "validation", 0.1, 0.1),
        ],
        columns=["method", "region_rule", "threshold_rule", "threshold", "gt_known"],
    )
    plots.plot_threshold_curves(curves, rows, tmp_path / "x.png")
    curve, dot, whole, centre = drawn[0].axes[0].lines
    assert curve.get_xydata().tolist() == [[0, 50], [0.1, 0], [0.2, 100]]
    assert dot.get_xydata().tolist() == [[0.2, 100]]
    assert (whole.get_ydata()[0], centre.get_ydata()[0]) == (25, 75)


def test_most_and_least_likely_classes_are_those_of_the_logits_with_their_bias(
    digits_run, small_window, cpu, tmp_path
):
    images = load_splits("scattered-digits", digits_run.data_dir, **DIGITS)["test"]
    network = network_of(digits_run).requires_grad_(False)
    network.head.bias[3], network.head.bias[5], network.head.bias[6] = 100, -100, -90
    classifier = ImageClassifier(network, head_only=False, cache_dir=tmp_path, runtime=cpu)
    options = {"misread": False, "workers": None}
    maps = Maps(["infocam+", "similar"], [1])
    scored = localise(classifier, images, maps, PROTOCOLS["infocam"], **options)
    assert scored.predictions.tolist() == [3] * 25
    labels = images.labels.tolist()
    assert {k: r for k, r in zip(labels, scored.ranks, strict=True) if k in (3, 5, 6)} == {
        k: r for k, r in ((3, 0), (5, 9), (6, 8)) if k in labels
    }
    least = torch.tensor([6 if label == 5 else 5 for label in labels])  # other than the label
    contrasts = network.head.weight[images.labels] - network.head.weight[least]
    with torch.inference_mode():
        maps = torch.einsum(
            "nchw,nc->nhw", network.features(network.spec.normalise(images.images)), contrasts
        )
    assert 5 in labels
    np.testing.assert_allclose(scored.maps["infocam+"], maps, rtol=0, atol=1e-4)
    assert scored.curves["infocam+", 1].largest.shape == (25, 100)
    assert list(tmp_path.iterdir()) == []  # tensors are not cached
