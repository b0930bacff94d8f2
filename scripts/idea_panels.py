"""The panels of `scripts.idea_figure`: logits become information, which has three uses."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from infocam.figures.evidence import Figure, Panel, draw_map, shrunk
from infocam.maps.photographs import Explanation, explain
from infocam.models.classifiers import Classifier
from mi_common.plots import save_figure
from mi_common.runtime import Runtime
from mi_estimator.tasks.suites import PAPER_DIMENSIONS
from scripts.figures_scores import BLUE, ORANGE, READINGS, RULES, draw_means

ROWS = Path("resources")
LIKELY_CLASSES, UNLIKELY_CLASS = 3, "airliner"
ESTIMATES = "mi_estimator.csv"
TABLES = {"MNIST": "pc_softmax_mnist.csv", "Tiny-ImageNet": "pc_softmax_tiny_imagenet.csv"}
FORMULA = r"$-\,\log\,\sum_k\, p(k)\, e^{f_k}$"


def draw_idea(path: Path, picture: Image.Image, classifier: Classifier, runtime: Runtime) -> None:
    """Above: picture, logits, information. Below: its mean, its negative, its parts."""
    options = {"normalisation": "max", "runtime": runtime}
    logits = explain(picture, classifier, ["infocam"], **options).scores
    explanation = explain(picture, classifier, ["infocam"], prior=True, **options)
    figure, (above, below) = plt.subplots(2, 3, figsize=(10.4, 6.6), width_ratios=(5, 5, 6))
    information = explanation.scores
    draw_input(above[0], picture)
    draw_classes(above[1], logits, information, classifier)
    above[1].set_title("a classifier's logits f(x)")
    draw_classes(above[2], information, information, classifier)
    above[2].set_title("pointwise mutual information (PMI), nats", loc="right")
    draw_step(above[2])
    draw_estimates(below[0])
    draw_accuracies(below[1])
    draw_parts(below[2], picture, explanation, classifier)
    save_figure(figure, path, dpi=100)  # a small file


def draw_input(axes: plt.Axes, picture: Image.Image) -> None:
    axes.imshow(shrunk(np.asarray(picture)))
    axes.set_axis_off()
    axes.set_title("an input x")


def draw_classes(
    axes: plt.Axes, values: np.ndarray, information: np.ndarray, classifier: Classifier
) -> None:
    """Bars of the classes with the most information on the picture, and of one that has none."""
    likely = np.argsort(-information)[:LIKELY_CLASSES].tolist()
    classes = [*likely, classifier.class_names.index(UNLIKELY_CLASS)]
    colours = [BLUE if value > 0 else ORANGE for value in values[classes]]
    bars = axes.barh([classifier.class_names[k] for k in classes], values[classes], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.axvline(0, color="k", linewidth=0.8)
    axes.margins(x=0.25)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)


def draw_step(axes: plt.Axes) -> None:
    """The formula from the logits on the left to the information in these axes, on an arrow."""
    axes.set_xlim(-1.8 * axes.get_xlim()[1], None)
    axes.set_yticks([])
    options = {"xycoords": "axes fraction", "annotation_clip": False}
    arrow = {"arrowstyle": "-|>", "linewidth": 2}
    axes.annotate("", (0.36, 0.5), (-0.08, 0.5), arrowprops=arrow, **options)
    text = {"ha": "center", "transform": axes.transAxes}
    axes.text(0.13, 0.59, FORMULA, fontsize=13, **text)
    note = "p(k): class frequencies\nof the training data"
    axes.text(0.13, 0.45, note, va="top", color="0.3", **text)


def draw_estimates(axes: plt.Axes) -> None:
    """Estimates minus the exact value on the paper's imbalanced task."""
    rows = pd.read_csv(ROWS / ESTIMATES)
    errors = (rows["estimate"] - rows["truth"]).groupby([rows["estimator"], rows["task"]])
    for estimator, (name, colour, marker) in READINGS.items():
        values = [
            errors.get_group((estimator, f"gaussian-d{d}-imbalanced")) for d in PAPER_DIMENSIONS
        ]
        draw_means(axes, range(len(PAPER_DIMENSIONS)), values, name, colour, marker)
    axes.axhline(0, color="k", linewidth=0.8)
    axes.set_xticks(range(len(PAPER_DIMENSIONS)), PAPER_DIMENSIONS)
    axes.set(
        xlabel="dimensions of five imbalanced classes",
        ylabel="estimate − exact (nats)",
        ylim=(-0.03, 0.19),
    )
    axes.set_yticks([0, 0.05, 0.1, 0.15])
    axes.legend(loc="upper left", frameon=False)
    axes.set_title("1  Mean PMI of many inputs:\nmutual information")


def draw_accuracies(axes: plt.Axes) -> None:
    """Gains in balanced accuracy on the balanced test sets of two imbalanced data sets."""
    gains = []
    for file in TABLES.values():
        rows = pd.read_csv(ROWS / file)
        rows = rows[rows["test_set"] == "official"]
        by_seed = rows.pivot(index="seed", columns=["loss", "rule"], values="balanced_accuracy")
        gains.append(100 * by_seed.sub(by_seed["softmax", "as trained"], axis=0))
    for shift, (rule, (name, colour, marker)) in enumerate(RULES.items()):
        places = np.arange(len(TABLES)) + 0.22 * (shift - 1)
        draw_means(axes, places, [table[rule] for table in gains], name, colour, marker)
    axes.axhline(0, color="k", linewidth=0.8)
    axes.set_xticks(range(len(TABLES)), list(TABLES))
    axes.set(xlim=(-0.5, 1.5), ylim=(-0.6, 8.6))
    axes.set_ylabel("gain on softmax in\nbalanced accuracy (points)")
    axes.legend(loc="upper left", frameon=False)
    axes.set_title("2  Minus PMI as a loss:\nbalanced accuracy gains")


def draw_parts(
    axes: plt.Axes, picture: Image.Image, explanation: Explanation, classifier: Classifier
) -> None:
    """The map of the likeliest class and its box."""
    name = classifier.class_names[explanation.labels[0]]
    values, pixels = explanation.maps[0], shrunk(np.asarray(picture))
    scale = float(np.abs(values).max())
    panel = Panel("", values, explanation.boxes[0], 0, scale, "", name)
    draw_map(axes, Figure(pixels, picture.size, "", [], [], "", ""), panel)
    axes.set_title(f"3  PMI minus other classes' PMI:\nmap and box of {name}")
