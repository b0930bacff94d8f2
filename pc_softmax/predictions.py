"""The predictions that `pc_softmax.train` saves: logits of each test set, and class priors."""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mi_common.annotation_lines import brief
from mi_common.errors import UserError
from mi_common.files import read_arrays
from mi_common.information import logits_from_softmax
from pc_softmax.adapter import Adapter, unique_names

MAX_LISTED = 5  # classes in a message
REMEDY = "train again with --overwrite"
KINDS = {"iu": "whole numbers", "f": "floats", "U": "text"}  # of NumPy's dtypes
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # a byte of a folder's name that is not UTF-8


@dataclass(frozen=True)
class Predictions:
    """A trained network's logits, and the priors that are needed to use them.

    Attributes:
        log_prior: (K,) log class frequencies of the training labels.
        counts: (K,) int64 training samples of each class.
        logit_log_prior: (K,) log of the prior under which softmax of the logits is the network's
            posterior: the training prior for softmax, uniform for PC-softmax.
        class_names: K names.
        tests: (N, K) logits and (N,) labels by test set; empty if trained without test images.
        validation: (M, K) logits and (M,) labels of validation samples, or None.
        head: (K,) lengths of the head's weight vectors and its (K,) bias; None for a cosine head.
        from_run: whether `pc_softmax.train` saved them; False for logits of a file.

    Priors and logits are float64.
    """

    log_prior: np.ndarray
    counts: np.ndarray
    logit_log_prior: np.ndarray
    class_names: list[str]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]
    validation: tuple[np.ndarray, np.ndarray] | None
    head: tuple[np.ndarray, np.ndarray] | None = None
    from_run: bool = True

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads a `predictions.npz`; UserError if it is missing, damaged or holds wrong arrays."""
        if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
            raise UserError(f"{path}: not there; give a folder that pc_softmax.train wrote")
        arrays = read_arrays(path)
        checked = functools.partial(_checked, path, arrays)
        num_classes = arrays["log_prior"].size if "log_prior" in arrays else 0
        priors = {}
        for name in ("log_prior", "logit_log_prior"):
            priors[name] = checked(name, "f", num_classes).astype(np.float64)
            total = np.exp(priors[name]).sum()
            if not abs(total - 1) <= 1e-4:
                raise UserError(f"{path}: exp({name}) sums to {total:.6g}, not one; {REMEDY}")
        counts = checked("counts", "iu", num_classes).astype(np.int64)
        if num_classes < 2 or (counts < 1).any():
            raise UserError(
                f"{path}: {num_classes} counts from {counts.min()}; it must hold two classes or "
                f"more, each with training samples; {REMEDY}"
            )
        class_names = checked("class_names", "U", num_classes).tolist()
        if damaged := [name for name in class_names if _SURROGATE.search(name)]:
            raise UserError(f"{path}: class {damaged[0]!r} is not UTF-8; rename it and {REMEDY}")
        tests = {}
        names = [name for name in arrays if name.endswith(("_logits", "_labels"))]
        for split in dict.fromkeys(name.rpartition("_")[0] for name in names):
            size = arrays.get(f"{split}_logits", np.empty(0)).shape[:1] or (0,)
            logits = checked(f"{split}_logits", "f", *size, num_classes)
            labels = checked(f"{split}_labels", "iu", *size)
            if not size[0] or labels.min() < 0 or labels.max() >= num_classes:
                raise UserError(f"{path}: {split}_labels must hold 0..{num_classes - 1}; {REMEDY}")
            tests[split] = logits.astype(np.float64), labels.astype(np.int64)
        validation = tests.pop("validation", None)
        head = None
        if "head_norms" in arrays:
            head = tuple(checked(name, "f", num_classes) for name in ("head_norms", "head_bias"))
        named = {"class_names": class_names, "tests": tests, "validation": validation, "head": head}
        return cls(**priors, counts=counts, **named)

    def pc_softmax_logits(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) logits of the network -> (N, K) PC-softmax logits, which hold no class prior."""
        log_prior = torch.from_numpy(self.logit_log_prior)
        return logits_from_softmax(torch.from_numpy(logits), log_prior).numpy()

    def classes_without_tests(self, test_set: str) -> str:
        """The names of the classes that a test set has no sample of, at most `MAX_LISTED`."""
        counts = np.bincount(self.tests[test_set][1], minlength=len(self.counts))
        names = [brief(self.unique_names[k], 40) for k in np.flatnonzero(counts == 0)]
        more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        return ", ".join(names[:MAX_LISTED]) + more

    @functools.cached_property
    def test_logits(self) -> dict[str, np.ndarray]:
        """(N, K) PC-softmax logits by test set."""
        return {name: self.pc_softmax_logits(logits) for name, (logits, _) in self.tests.items()}

    @functools.cached_property
    def validation_logits(self) -> np.ndarray | None:
        """(M, K) PC-softmax logits of the validation samples, or None."""
        return None if self.validation is None else self.pc_softmax_logits(self.validation[0])

    @functools.cached_property
    def unique_names(self) -> list[str]:
        """(K,) class names, with their numbers if two classes have the same name."""
        return unique_names(self.class_names)

    @functools.cached_property
    def adapter(self) -> Adapter:
        """Predictions under other priors, from PC-softmax logits."""
        validation = self.validation and (self.validation_logits, self.validation[1])
        options = {"validation": validation, "from_run": self.from_run}
        return Adapter(self.log_prior, self.logit_log_prior, self.class_names, **options)


def _checked(
    path: Path, arrays: dict[str, np.ndarray], name: str, kinds: str, *shape: int
) -> np.ndarray:
    """The array `name`; UserError unless it has one of KINDS and the shape, and is finite."""
    if name not in arrays:
        raise UserError(f"{path}: array {name!r} is missing; {REMEDY}")
    array = arrays[name]
    if array.dtype.kind not in kinds:
        raise UserError(f"{path}: {name} holds {array.dtype}, not {KINDS[kinds]}; {REMEDY}")
    if array.shape != shape:
        raise UserError(f"{path}: {name} has shape {array.shape}, not {shape}; {REMEDY}")
    if kinds == "f" and (wrong := ~np.isfinite(array)).any():
        rows = wrong.any(axis=tuple(range(1, array.ndim))).sum()
        raise UserError(f"{path}: {rows} of {len(array)} rows of {name} are not finite; {REMEDY}")
    return array
