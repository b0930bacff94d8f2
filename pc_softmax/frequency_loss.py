"""What all losses of class frequencies share: how they are made, kept and checked."""

import math

import torch
from torch import Tensor, nn

from mi_common import information
from mi_common.errors import UserError


class FrequencyLoss(nn.Module):
    """Base of the losses that use the class frequencies of the training set.

    `from_counts` takes (K,) positive class counts and the constructor's options.
    """

    @classmethod
    def from_labels(cls, labels: Tensor, num_classes: int, **options) -> "FrequencyLoss":
        """From (N,) training labels; options as in `from_counts`, errors as in `class_counts`."""
        return cls.from_counts(information.class_counts(labels, num_classes), **options)

    def _apply(self, fn, recurse=True):
        # PyTorch calls this for .to(), .half() and .cuda(). It takes the device and keeps the
        # dtype: in bfloat16 a log prior of -5 would be off by up to 0.016, and so would the logits.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)


def positive(what: str, values: Tensor) -> Tensor:
    values = torch.as_tensor(values).double()
    wrong = (~(values.isfinite() & (values > 0))).nonzero().flatten()[:10]
    if len(wrong):
        raise UserError(
            f"{what} {values[wrong].tolist()} of classes {wrong.tolist()}: not positive"
        )
    return values


def check_range(name: str, value: float, low: float, below: float = math.inf) -> None:
    if not low <= value < below:
        raise UserError(f"{name} {value}: must be at least {low} and below {below}")
