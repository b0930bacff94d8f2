"""The choice of learning rate and head on validation images, for `pc_softmax.compare --tune`.

Every loss is trained with every head and rate of one grid on a part of the training images, and
scored on the others; the test images are not used. The criterion is the balanced accuracy of
the logits without their class prior, which is the decision for balanced classes.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mi_common.engine import DivergedError
from mi_common.errors import UserError
from mi_common.results import ResultsFile
from mi_common.runtime import Runtime
from mi_common.workers import run_cells
from pc_softmax import training
from pc_softmax.comparison import finished_run, train_flags
from pc_softmax.data import ImbalancedData, load_data
from pc_softmax.metrics import classification_scores
from pc_softmax.names import COMPARED_LOSSES
from pc_softmax.predictions import Predictions
from pc_softmax.recipes import HEADS, DataSettings, Settings

SCORES = ["balanced_accuracy", "class_nll", "balanced_accuracy_as_trained"]
COLUMNS = ["dataset", "loss", "head", "lr", "seed", *SCORES, "n_train", "seconds"]
COLUMNS += ["status"]
KEY = ["dataset", "loss", "head", "lr", "seed"]
TEXT = {"dataset": None, "loss": COMPARED_LOSSES, "head": HEADS, "lr": None, "status": None}
SPLIT = "tuning"  # name of the validation images among the test sets of a run


def tuning_images(settings: DataSettings) -> ImbalancedData:
    """The images that a choice may see: the validation images take the place of the test sets."""
    data = load_data(**vars(settings))
    indices = {name: rows for name, rows in data.indices.items() if not name.startswith("test/")}
    tests = {SPLIT: data.validation}
    return dataclasses.replace(data, validation=None, tests=tests, indices=indices)


def grid(flags: Mapping[str, Any], loss: str) -> list[tuple[str, float]]:
    """Heads and learning rates of `--tune`; what is not tuned keeps its flag's value."""
    default_head = train_flags(flags, loss, 0, Path("unused"))["head"]
    heads = HEADS if "head" in flags["tune"] else (default_head,)
    rates = flags["tune_rates"] if "lr" in flags["tune"] else (flags["lr"],)
    return list(itertools.product(heads, rates))


def settings_of(flags: Mapping[str, Any], folder: Path) -> Settings:
    """Of one run of softmax in the grid; for the images and the backbone, which all runs share."""
    head, lr = grid(flags, "softmax")[0]
    return Settings.from_flags(_run_flags(flags, "softmax", 0, folder, head, lr, {}))


def tune(
    flags: Mapping[str, Any],
    losses: list[str],
    folder: Path,
    data: ImbalancedData,
    **computing: Any,
) -> dict[str, dict[str, Any]]:
    """Trains the grid of every loss, or what `tuning.csv` lacks; returns what was chosen.

    Args:
        flags: of `pc_softmax.compare`.
        data: of `tuning_images`.
        computing: runtime, num_workers and cluster of `run_cells`.

    Returns:
        {"head": name, "lr": rate} by loss. UserError if all runs of a loss diverged.
    """
    text = TEXT | {"dataset": [flags["dataset"]]}
    results = ResultsFile(folder / "tuning.csv", COLUMNS, KEY, text=text)
    fingerprints = training.fingerprints(settings_of(flags, folder), data)
    shared = (fingerprints, training.description(data), computing["runtime"])
    best_settings: dict[str, dict[str, Any]] = {}
    for second_stage in (False, True):  # cRT starts from softmax's chosen runs
        stage = [loss for loss in losses if (loss == "crt") == second_stage]
        cells = {
            (flags["dataset"], loss, head, lr, seed): (
                loss,
                _run_flags(flags, loss, seed, folder, head, lr, best_settings),
                *shared,
            )
            for loss in stage
            for head, lr in grid(flags, loss)
            for seed in flags["tune_seeds"]
        }
        rows = run_cells(tune_one, cells, results, **computing)
        best_settings |= {loss: choose(rows[rows["loss"] == loss], loss) for loss in stage}
    return best_settings


def tune_one(
    loss: str, flags: dict, fingerprints: dict[str, str], description: dict, runtime: Runtime
) -> list[dict]:
    """Trains and scores one cell of the grid; the row of `tuning.csv`.

    A loss that is not finite gives the status "failed: ...". Arguments are as those of
    `comparison.train_one`.
    """
    row = {"dataset": flags["dataset"], "loss": loss, "head": flags["head"], "lr": flags["lr"]}
    row |= {"seed": flags["seed"], "n_train": sum(description["class_counts"]), "status": "ok"}
    try:
        run = finished_run(flags, fingerprints, description, runtime, images=tuning_images)
    except DivergedError as error:
        return [row | {"status": f"failed: {error}"}]
    predictions = Predictions.load(run.path / "predictions.npz")
    logits, labels = predictions.tests[SPLIT]
    as_trained = classification_scores(logits, labels)["balanced_accuracy"]
    without_prior = predictions.pc_softmax_logits(logits)
    return [
        row
        | {
            "balanced_accuracy": classification_scores(without_prior, labels)["balanced_accuracy"],
            "class_nll": class_nll(without_prior, labels),
            "balanced_accuracy_as_trained": as_trained,
            "seconds": run.result()["seconds"],
        }
    ]


def class_nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of -log softmax of (N, K) logits at (N,) labels, in nats."""
    log_posterior = torch.from_numpy(logits).log_softmax(dim=1).numpy()
    nll = pd.Series(-log_posterior[np.arange(len(labels)), labels])
    return float(nll.groupby(labels).mean().mean())


def choose(rows: pd.DataFrame, loss: str) -> dict[str, Any]:
    """Head and rate with the best mean balanced accuracy over seeds, equal ones by `class_nll`.

    A setting with a failed run is not chosen. UserError if there is no other.
    """
    good = rows.assign(ok=rows["status"] == "ok", lr=rows["lr"].astype(float))
    means = good.groupby(["head", "lr"], sort=False)[[*SCORES, "ok"]].mean()
    means = means[means["ok"] == 1]
    if means.empty:
        raise UserError(f"{loss}: every run of --tune diverged; give lower --tune-rates")
    order = means.sort_values(["balanced_accuracy", "class_nll"], ascending=[False, True])
    head, lr = order.index[0]
    return {"head": head, "lr": float(lr)}


def notes(flags: Mapping[str, Any], best_settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a loss: what was chosen, and whether the rate is at an end of the grid."""
    rates = sorted(flags["tune_rates"])
    lines = []
    for loss, values in best_settings.items():
        line = f"{loss}: {values['head']} head, learning rate {values['lr']:g}"
        if "lr" in flags["tune"] and len(rates) > 1 and values["lr"] in (rates[0], rates[-1]):
            line += f", {'lowest' if values['lr'] == rates[0] else 'highest'} of the grid"
        lines.append(line)
    return lines


def _run_flags(
    flags: Mapping[str, Any],
    loss: str,
    seed: int,
    folder: Path,
    head: str,
    lr: float,
    best_settings: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    def path(loss: str, head: str, lr: float) -> Path:
        return folder / "tuning" / f"{loss}-{head}-{lr:g}-{seed}"

    run_flags = train_flags(flags, loss, seed, path(loss, head, lr))
    run_flags |= {"head": head, "lr": lr, "val_fraction": flags["tune_fraction"]}
    if loss == "crt" and "softmax" in best_settings:
        run_flags["init"] = path("softmax", **best_settings["softmax"])
    return run_flags
