"""The folders that `scripts.report` reads, as small as they can be."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from infocam.figures.evidence import ClassBar, Figure, Panel
from infocam.figures.overlay import Overlay, save_overlay_arrays
from infocam.figures.page import page_record
from mi_common.files import save_arrays
from mi_common.tables import to_markdown

CONFIG = {"flags": {"seeds": [0, 1]}, "command": "python <x>", "torch": "2", "gpu": None}
CONFIG |= {"cpu": "a cpu, 2 cores"}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
TABLES = 6  # of the page of these runs: five shown ones, and one with the folded rows


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


PNG = png_of(Image.new("RGB", (1, 1), "red"))


def information_rows(tasks: dict[str, float], errors: dict[str, tuple]) -> pd.DataFrame:
    """Rows of the benchmark: exact values by task, errors of each seed by estimator."""
    return pd.DataFrame(
        [
            {"task": task, "estimator": name, "seed": seed, "estimate": truth + error}
            | {"truth": truth, "status": "ok"}
            for task, truth in tasks.items()
            for name, of_seeds in errors.items()
            for seed, error in enumerate(of_seeds)
        ]
    )


def imbalance_rows(scores: dict[tuple[str, str, str], tuple]) -> pd.DataFrame:
    """Rows of the comparison: balanced accuracies of each seed by test set, loss and rule."""
    return pd.DataFrame(
        [
            {"test_set": test_set, "loss": loss, "rule": rule, "seed": seed}
            | {"balanced_accuracy": value}
            for (test_set, loss, rule), of_seeds in scores.items()
            for seed, value in enumerate(of_seeds)
        ]
    )


def localisation_rows(shares: dict[str, float]) -> pd.DataFrame:
    """Rows of the evaluation at three threshold rules; the interval is a point each side."""
    return pd.DataFrame(
        [
            {"method": method, "region_rule": "off", "threshold_rule": rule, "gt_known": share}
            | {"gt_known_low": share - 0.01, "gt_known_high": share + 0.01}
            for method, share in shares.items()
            for rule in ("fixed", "validation", "oracle")
        ]
    )


def write_runs(root: Path) -> None:
    tasks = {"gaussian-d1-balanced": 1.03, "gaussian-d1-imbalanced": 1.02}
    errors = {"softmax": (0.001, 0.003), "pc-softmax": (0.001, 0.002)}
    test_sets = ("paper-window", "official")
    rules = (("softmax", "as trained"), ("softmax", "prior subtracted"))
    rules += (("pc-softmax", "as trained"),)
    scores = {(name, *rule): (0.9, 0.91) for name in test_sets for rule in rules}
    maps = localisation_rows({"cam": 0.5, "infocam": 0.75, "centre-box": 0.1})
    pairs = localisation_rows({"infocam - cam": 0.25, "infocam - centre-box": 0.65}).assign(n=100)
    table = to_markdown(pd.DataFrame({"a": ["b", "c"], "n": [2, 2], "x": [1, 2]}))
    files = {
        "mi_estimator/results.csv": information_rows(tasks, errors).to_csv(index=False),
        "mi_estimator/table.md": table,
        "mi_estimator/estimates.png": PNG,
        "pc_softmax/results.csv": imbalance_rows(scores).to_csv(index=False),
        "pc_softmax/table.md": table,
        "pc_softmax/differences.md": table,
        "pc_softmax/per_class.png": PNG,
        "pc_softmax/per_class.svg": SVG,
        "infocam/evaluation/results.csv": maps.to_csv(index=False),
        "infocam/evaluation/differences.csv": pairs.to_csv(index=False),
        "infocam/evaluation/differences.md": table,
        "infocam/evaluation/table.md": to_markdown(maps[["method", "threshold_rule", "gt_known"]]),
        "infocam/evaluation/threshold_curves.png": PNG,
        "infocam/evaluation/overlays/0.png": PNG,
    }
    folders = ("mi_estimator", "pc_softmax", "infocam/evaluation", "explain")
    files |= {f"{folder}/config.json": json.dumps(CONFIG) for folder in folders}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    values = {name: rng.normal(size=(3, 4)).astype(np.float32) for name in ("cam", "infocam")}
    boxes = {"infocam": np.array([1, 1, 4, 4])}
    overlay = Overlay(picture, values, boxes, np.array([[1, 1, 4, 4]]), "seven")
    save_overlay_arrays(root / "infocam/evaluation/overlays/0.npz", overlay)
    panels = [Panel(name, v, np.array([0, 0, 3, 3]), 0, 2.0, "", "") for name, v in values.items()]
    figure = Figure(picture, (8, 6), "", panels, [ClassBar("bee", 0.25, 0)], "", "")
    record, jpeg = page_record("bee.jpg", figure, np.zeros((2, 100, 4), int), 0.3)
    arrays = {"maps": np.stack(list(values.values())), "methods": list(values)}
    save_arrays(root / "explain/bee.npz", page=record, picture=jpeg, **arrays)
