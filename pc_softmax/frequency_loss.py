"""What all losses of class frequencies share: how they are made, kept, shown and checked."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mi_common import information
from mi_common.errors import UserError

Values = Tensor | np.ndarray | Sequence  # or a pandas Series
MAX_SHOWN = 6  # values in a loss's repr


class FrequencyLoss(nn.Module):
    """Base of the losses that use the class frequencies of the training set.

    `from_counts` takes K positive class counts, in the order of the classes, and the constructor's
    options; counts and labels are tensors, NumPy arrays, lists or pandas Series.
    """

    @classmethod
    def from_labels(cls, labels: Values, num_classes: int, **options) -> "FrequencyLoss":
        """From training labels of any shape; options as in `from_counts`.

        Labels that equal `ignore_index`, -100 if it is not given, are not counted. UserError for
        labels that are not whole numbers or are one-hot, and as in `class_counts`.
        """
        labels = as_tensor("labels", labels)
        if labels.is_floating_point():
            raise UserError(f"labels {labels.dtype}: must be whole numbers, 0..{num_classes - 1}")
        labels = labels.long()
        if labels.ndim == 2 and labels.shape[1] == num_classes and _is_one_hot(labels):
            raise UserError("labels are one-hot; give class numbers, labels.argmax(1)")
        labels = labels[labels != options.get("ignore_index", -100)]
        return cls.from_counts(information.class_counts(labels, num_classes), **options)

    def _apply(self, fn, recurse=True):
        # PyTorch calls this for .to(), .half() and .cuda(). It takes the device and keeps the
        # dtype: in bfloat16 a log prior of -5 would be off by up to 0.016, and so would the logits.
        def moved(tensor: Tensor) -> Tensor:
            device = fn(tensor.float()).device
            return tensor.to(device, torch.float32 if device.type == "mps" else tensor.dtype)

        return super()._apply(moved, recurse)

    def extra_repr(self) -> str:
        options = {name: value for name, value in vars(self).items() if name[0] != "_"}
        del options["training"]
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


def as_tensor(what: str, values: Values) -> Tensor:
    """A tensor as it is; anything else as an int64 or float64 one, or a UserError."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "iufb":
        kind = type(values).__name__
        raise UserError(f"{what} ({kind} of {array.dtype}): give a list or an array of numbers")
    return torch.from_numpy(array.astype("f8" if array.dtype.kind == "f" else "i8"))


def positive(what: str, values: Values) -> Tensor:
    """Values as a (K,) float64 tensor; UserError unless all are finite and positive."""
    values = as_tensor(what, values).double()
    if values.ndim != 1 or not len(values):
        raise UserError(f"{what} of shape {tuple(values.shape)}: give one number for each class")
    wrong = (~(values.isfinite() & (values > 0))).nonzero().flatten()[:10]
    if len(wrong):
        raise UserError(
            f"{what} {values[wrong].tolist()} of classes {wrong.tolist()}: not positive"
        )
    return values


def class_counts(counts: Values) -> Tensor:
    """Numbers of training samples as a (K,) float64 tensor; UserError for anything else."""
    index = getattr(counts, "index", None)  # of a pandas Series
    if not getattr(index, "is_monotonic_increasing", True):
        raise UserError(f"class counts in the order {shown(index)}: use counts.sort_index()")
    counts = positive("class counts", counts)
    if len(counts) > 1 and abs(counts.sum().item() - 1) < 1e-3:
        raise UserError(
            f"class counts {shown(counts)}: these are probabilities; give the number of training "
            "samples of each class, or PCSoftmaxLoss the logarithms of probabilities"
        )
    return counts


def _is_one_hot(rows: Tensor) -> bool:
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(dim=1) == 1).all())


def shown(values: Values) -> str:
    """A list of values with three digits, or of the first and the last ones."""
    texts = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values.tolist()]
    if len(texts) > MAX_SHOWN:
        texts = [*texts[: MAX_SHOWN // 2], "...", *texts[-MAX_SHOWN // 2 :]]
    return f"[{', '.join(texts)}]"


def check_range(name: str, value: float, low: float, below: float = math.inf) -> None:
    if not low <= value < below:
        raise UserError(f"{name} {value}: must be at least {low} and below {below}")
