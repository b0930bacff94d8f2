"""The picture, the arrays and the tables of one explained photograph."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from infocam.figures.overlay import Overlay, save_explanation
from infocam.maps.photographs import Explanation
from infocam.names import GRADIENT_METHODS
from mi_common.files import save_arrays
from mi_common.pictures import read_image

MAX_CLASSES_SHOWN = 5  # most likely classes
SCORE = {False: "logit", True: "pointwise mutual information (nats)"}  # without and with --prior


def likeliest(explanation: Explanation) -> list[int]:
    """The most likely classes, best first, and the label if it is not among them."""
    best = np.argsort(-explanation.scores, kind="stable")[:MAX_CLASSES_SHOWN].tolist()
    return best if explanation.label in best else [*best, explanation.label]


def rank_of(explanation: Explanation, k: int) -> int:
    """One more than the number of classes above class k."""
    return 1 + int((explanation.scores > explanation.scores[k]).sum())


def method_name(method: str, class_names: list[str]) -> str:
    kind, _, number = method.partition(":")
    return f"class:{class_names[int(number)]}" if kind == "class" else method


def summary_tables(
    explanation: Explanation, class_names: list[str], prior: bool
) -> tuple[pd.DataFrame, ...]:
    """Tables of the most likely classes, and of the methods with their boxes."""
    shown = likeliest(explanation)
    classes = {
        "rank": [rank_of(explanation, k) for k in shown],
        "class": [class_names[k] for k in shown],
        "number": shown,
        SCORE[prior]: [f"{explanation.scores[k]:.2f}" for k in shown],
    }
    boxes = explanation.boxes.tolist()
    methods = {
        "method": [method_name(method, class_names) for method in explanation.methods],
        "against": explanation.against,
        "box x0 y0 x1 y1": [" ".join(map(str, b)) if b[0] >= 0 else "none" for b in boxes],
    }
    return pd.DataFrame(classes), pd.DataFrame(methods)


def write_explanation(
    stem: Path, path: Path, explanation: Explanation, class_names: list[str], prior: bool
) -> list[Path]:
    """Writes the PNG and the arrays of one image."""
    png, npz = (stem.with_name(stem.name + end) for end in (".png", ".npz"))
    titles = []
    for method, against in zip(explanation.methods, explanation.against, strict=True):
        name = "map" if method.startswith("class:") else method_name(method, class_names)
        unit = ", nats" if prior and method not in GRADIENT_METHODS else ""
        titles.append(name + unit + (f", minus {against}" if against in class_names else ""))
    boxes = {t: box for t, box in zip(titles, explanation.boxes, strict=True) if box[0] >= 0}
    maps = dict(zip(titles, explanation.maps, strict=True))
    shown, label = likeliest(explanation), class_names[explanation.label]
    save_explanation(
        png,
        Overlay(np.asarray(read_image(path)), maps, boxes, np.zeros((0, 4)), label),
        [f"{rank_of(explanation, k)}. {class_names[k]}" for k in shown],
        explanation.scores[shown],
        marked=shown.index(explanation.label),
        score=SCORE[prior],
    )
    arrays = {name: getattr(explanation, name) for name in ("maps", "methods", "boxes", "scores")}
    save_arrays(npz, **arrays, class_names=class_names, label=explanation.label)
    return [png, npz]


def unique_stems(paths: list[Path]) -> list[str]:
    """File names without their endings; the second `cat` becomes `cat-2`."""
    stems: list[str] = []
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        stems.append(next(s for s in itertools.chain([path.stem], numbered) if s not in stems))
    return stems
