"""What `pc_softmax.train` saves of a network: its logits on each test set, and the priors."""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mi_common.annotation_lines import brief
from mi_common.calibration import fit_calibration
from mi_common.errors import UserError
from mi_common.files import read_arrays
from mi_common.information import logits_from_softmax

AGAIN = "train again with --overwrite"
KINDS = {"iu": "whole numbers", "f": "floats", "U": "text"}  # of NumPy's dtypes
# EM's logits are calibrated on the validation samples only if every class has this many. With 31
# samples of five classes, one of which had a single one, calibrated EM lost 8 points against the
# plain argmax (74.0, 82.1); with 78 and 692 samples of other sets, deciding by calibrated logits
# lost 1 to 1.4 points. On MNIST calibration helped: accuracy under EM's prior 96.13 to 96.95.
MIN_CALIBRATION_SAMPLES = 10
LISTED = 5  # classes that a note names at most
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # stands for a byte of a folder's name


@dataclass(frozen=True)
class Predictions:
    """A trained network's logits, and the priors that give them a meaning.

    Attributes:
        log_prior: (K,) log class frequencies of the training labels.
        counts: (K,) int64 training samples of each class.
        logit_log_prior: (K,) log of the prior under which softmax of the logits is the network's
            posterior: the training prior for softmax, uniform for PC-softmax.
        class_names: K of them.
        tests: (N, K) logits and (N,) labels by test set.
        validation: the same of samples that were held out of the training data, or None.
        head: (K,) lengths of the last layer's weights and its (K,) bias; None of a cosine head.

    Priors and logits are float64.
    """

    log_prior: np.ndarray
    counts: np.ndarray
    logit_log_prior: np.ndarray
    class_names: list[str]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    validation: tuple[np.ndarray, np.ndarray] | None
    head: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads and checks a `predictions.npz`.

        Raises:
            UserError: no such file, or one that is damaged or not whole: arrays that are missing,
                of the wrong type or do not fit together, logits that are not finite, a prior that
                is none.
        """
        if not os.path.isfile(path):  # unlike the method of Path, also of a name that is too long
            raise UserError(f"{path}: not there; give a folder that pc_softmax.train wrote")
        arrays = read_arrays(path)
        parts = [name.removesuffix("_logits") for name in arrays if name.endswith("_logits")]
        parts_of_head = ("head_norms", "head_bias") if "head_norms" in arrays else ()
        by_class = ("log_prior", "counts", "logit_log_prior", "class_names", *parts_of_head)
        of_parts = (f"{part}_{what}" for part in parts for what in ("logits", "labels"))
        missing = [name for name in (*by_class, *of_parts) if name not in arrays]
        if missing:
            raise UserError(f"{path}: no array {missing[0]!r} in it; {AGAIN}")
        num_classes = arrays["log_prior"].size
        for name in by_class:
            if arrays[name].shape != (num_classes,) or num_classes < 2:
                raise UserError(
                    f"{path}: {name} has shape {arrays[name].shape}, log_prior "
                    f"{arrays['log_prior'].shape}: one entry for each of two classes or more"
                )
            kinds = {"counts": "iu", "class_names": "U"}.get(name, "f")
            _require_kind(path, name, arrays[name], kinds)
        counts = arrays["counts"].astype(np.int64)
        if (counts < 1).any():
            raise UserError(f"{path}: counts must be positive, not {counts.min()}")
        if not all(np.isfinite(arrays[name]).all() for name in parts_of_head):
            raise UserError(f"{path}: the head's weights or bias are not finite; {AGAIN}")
        class_names = arrays["class_names"].tolist()
        if not_text := [name for name in class_names if _SURROGATE.search(name)]:
            raise UserError(
                f"{path}: class name {not_text[0]!r} is not UTF-8; rename it and {AGAIN}"
            )
        tests = {part: _labelled_logits(path, part, arrays, num_classes) for part in parts}
        validation = tests.pop("validation", None)
        if not tests:
            raise UserError(f"{path}: no test set in it; {AGAIN}")
        return cls(
            _checked_prior(path, "log_prior", arrays),
            counts,
            _checked_prior(path, "logit_log_prior", arrays),
            class_names,
            tests,
            validation,
            tuple(arrays[name] for name in parts_of_head) or None,
        )

    def pc_softmax_logits(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) of the network's logits -> (N, K) that hold no class prior."""
        log_prior = torch.from_numpy(self.logit_log_prior)
        return logits_from_softmax(torch.from_numpy(logits), log_prior).numpy()

    @functools.cached_property
    def unique_names(self) -> list[str]:
        """(K,) class names, with their numbers if two classes have the same name."""
        if len(set(self.class_names)) == len(self.class_names):
            return self.class_names
        return [f"{name} ({k})" for k, name in enumerate(self.class_names)]

    @functools.cached_property
    def scarce_classes(self) -> dict[str, int]:
        """Validation samples of the classes with too few to calibrate on, by class."""
        if self.validation is None:
            return {}
        counts = np.bincount(self.validation[1], minlength=len(self.counts)).tolist()
        named = zip(self.unique_names, counts, strict=True)
        return {name: count for name, count in named if count < MIN_CALIBRATION_SAMPLES}

    @property
    def calibration_note(self) -> str:
        """One line on why EM uses uncalibrated logits; empty if they are calibrated."""
        if self.validation is None:
            return "EM uses uncalibrated logits; hold images out with --val-fraction"
        if not self.scarce_classes:
            return ""
        shown = [f"{brief(name, 40)} ({count})" for name, count in self.scarce_classes.items()]
        more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
        return (
            f"EM uses uncalibrated logits: fewer than {MIN_CALIBRATION_SAMPLES} validation samples "
            f"of {', '.join(shown[:LISTED])}{more}; hold more images out with --val-fraction"
        )

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) PC-softmax logits under the temperature and the class biases that fit the
        validation samples best; as they are where there are none or too few of a class.

        EM recovers class priors much better from them (Alexandari, Kundaje and Shrikumar 2020).
        """
        scale, bias = self._calibration
        return scale * logits + bias

    @functools.cached_property
    def _calibration(self) -> tuple[float, np.ndarray]:
        if self.validation is None or self.scarce_classes:
            return 1.0, np.zeros_like(self.log_prior)
        logits, labels = self.validation
        validation = torch.from_numpy(self.pc_softmax_logits(logits)), torch.from_numpy(labels)
        scale, bias = fit_calibration(*validation, torch.from_numpy(self.log_prior))
        return scale.item(), bias.numpy()


def _require_kind(path: Path, name: str, values: np.ndarray, kinds: str) -> None:
    """UserError for an array that is not of one of KINDS."""
    if values.dtype.kind not in kinds:
        raise UserError(f"{path}: {name} holds {values.dtype}, not {KINDS[kinds]}; {AGAIN}")


def _checked_prior(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    log_prior = arrays[name].astype(np.float64)
    prior = np.exp(log_prior)
    if not np.isfinite(log_prior).all() or not abs(prior.sum() - 1) <= 1e-4:
        raise UserError(
            f"{path}: {name} is no class prior: probabilities from {prior.min():.4g} that sum to "
            f"{prior.sum():.6g}; they must be positive and sum to one"
        )
    return log_prior


def _labelled_logits(
    path: Path, part: str, arrays: dict[str, np.ndarray], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = arrays[f"{part}_logits"], arrays[f"{part}_labels"]
    where = f"{path}: {part!r}"
    _require_kind(path, f"{part}_logits", logits, "f")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise UserError(
            f"{where}: logits {logits.shape} and labels {labels.shape} must be (N, K) and (N,)"
        )
    if logits.shape[1] != num_classes:
        raise UserError(f"{where}: {logits.shape[1]} logits a sample for {num_classes} classes")
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise UserError(f"{where}: {bad} of {len(logits)} samples have no finite logits")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(f"{where}: labels must be whole numbers 0..{num_classes - 1}")
    return logits.astype(np.float64), labels.astype(np.int64)
