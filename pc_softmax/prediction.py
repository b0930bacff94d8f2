"""The files that `pc_softmax.predict` writes, and the check of its target prior."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.files import save_arrays
from pc_softmax.decisions import write_csv
from pc_softmax.predictions import Predictions

MAX_LISTED = 10  # unreadable files


def check_target_prior(predictions: Predictions, target: str) -> None:
    """UserError for a --target-prior that cannot work, before pictures are read."""
    if target != "em":
        predictions.adapter.target_log_prior(target, next(iter(predictions.test_logits.values())))


def write_logits(
    predictions: Predictions, logits: np.ndarray, files: list[str], path: Path
) -> None:
    """The (N, K) logits as the network gives them, with all that `pc_softmax.adjust` needs."""
    arrays = {
        "logits": logits,
        "files": files,
        "class_names": predictions.class_names,
        "counts": predictions.counts,
        "logit_log_prior": predictions.logit_log_prior,
    }
    if predictions.validation is not None:
        names = ("validation_logits", "validation_labels")
        arrays |= dict(zip(names, predictions.validation, strict=True))
    save_arrays(path, **arrays)


def write_unreadable(unreadable: list[tuple[Path, str]], folder: Path) -> None:
    """Writes unreadable.csv, and prints its first lines."""
    rows = [(str(path), reason) for path, reason in unreadable]
    write_csv(pd.DataFrame(rows, columns=["file", "reason"]), folder / "unreadable.csv")
    for path, reason in unreadable[:MAX_LISTED]:
        print(f"left out {path}: {reason}")
    if len(unreadable) > MAX_LISTED:
        print(f"and {len(unreadable) - MAX_LISTED} more in {folder}/unreadable.csv")
