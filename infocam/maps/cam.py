"""Class activation maps and their informative contrasts, as pure functions of tensors.

With feature maps F (B, C, H, W) and the weights w (K, C) of a linear head after global average
pooling, the map of class k is sum_c w_kc F_c. It is signed: no bias, no ReLU. Its mean over
positions is the class's logit without the bias, so a contrast of classes splits a difference of
logits, that is of pointwise mutual information, over the image:

    cam         the label's own map                                   (Zhou et al. 2016)
    infocam     less the mean map of the other classes                (Qin et al. 2019)
    infocam+    less the map of the least likely of the other classes (Qin et al. 2019)
    lowest:N    less the mean map of the N least likely of the other classes
    similar     less the map of the most likely of the other classes
    posterior   less the mean of the other classes' maps, weighted by their probability
    class:NAME  less the map of one class, by name or number: "why this and not that"

Each is a row of class coefficients, so no map of a class that is not asked for is computed. What is
likely is read off the logits as they are given: those of softmax hold the class prior, those of
PC-softmax do not. Half precision is raised to that of the head's weights.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mi_common.annotation_lines import brief, whole_number
from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information

CONTRASTS = ("cam", "infocam", "infocam+", "similar", "posterior")
PADDINGS = ("same", "legacy-full")
MAX_LOWEST = 10**9  # of lowest:N; any N above the number of the other classes means all of them
MAX_REGION = 999  # cells; a region twice as wide as the map already averages all of it


def class_maps(features: Tensor, weights: Tensor) -> Tensor:
    """Activation maps of all classes: (B, C, H, W) and (K, C) -> (B, K, H, W)."""
    return torch.einsum("bchw,kc->bkhw", features.to(weights), weights)


def parse_contrast(text: str, class_names: list[str] | None = None) -> str:
    """The canonical name of a contrast, `class:NAME` turned into `class:NUMBER`.

    Args:
        class_names: to look NAME up in; without them only the form is checked.

    Raises:
        UserError: an unknown contrast, a count below one, a class that is not there, or a name
            that several classes have.
    """
    kind, _, rest = text.partition(":")
    if text in CONTRASTS:
        return text
    if kind == "lowest" and (count := whole_number(rest, 1, MAX_LOWEST)):
        return f"lowest:{count}"
    if kind != "class" or not rest:
        known = ", ".join((*CONTRASTS, "lowest:N", "class:NAME"))
        raise UserError(f"method '{brief(text)}': use one of {known}")
    if class_names is None:
        return text
    if class_names.count(rest) > 1:
        raise UserError(f"method '{brief(text)}': several classes have this name; give a number")
    if rest in class_names:
        return f"class:{class_names.index(rest)}"
    if (number := whole_number(rest, 0, len(class_names) - 1)) is not None:
        return f"class:{number}"
    raise UserError(
        f"method '{brief(text)}': no such class; give a name or a number below {len(class_names)}"
    )


def coefficients(contrast: str, logits: Tensor, labels: Tensor) -> Tensor:
    """How much of each class's map a contrast takes: (B, K) logits, (B,) labels -> (B, K).

    One at the label; the others are zero for `cam`, and sum to minus one for every contrast. Where
    N is the label itself, the row of `class:N` is zero.

    Args:
        contrast: one of `CONTRASTS`, `class:NUMBER` or `lowest:N`; N above K - 1 means K - 1.
        logits: finite; up to a constant of each row.

    Raises:
        UserError: an unknown contrast, a class that is not there, or fewer than two classes.
        ValueError: a name of `CONTRASTS` that has no rule here.
    """
    contrast = parse_contrast(contrast)
    kind, _, rest = contrast.partition(":")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = F.one_hot(labels, logits.shape[1]).to(logits)
    if contrast == "cam":
        return own
    others = logits.shape[1] - 1
    if others < 1:
        raise UserError(f"method {contrast}: a contrast needs two classes, there is one")
    if contrast == "infocam":
        return own - (1 - own) / others
    if kind == "class":
        number = whole_number(rest, 0, others)
        if number is None:
            raise UserError(f"method {brief(contrast)}: want a class number from 0 to {others}")
        return own - F.one_hot(torch.full_like(labels, number), logits.shape[1]).to(logits)
    without_label = logits.masked_fill(own.bool(), -torch.inf)
    if contrast == "posterior":
        return own - torch.softmax(without_label, dim=1)
    if contrast == "similar":
        against = without_label.argmax(dim=1, keepdim=True)
    elif contrast == "infocam+" or kind == "lowest":
        count = 1 if contrast == "infocam+" else min(int(rest), others)
        ranked = logits.masked_fill(own.bool(), torch.inf)
        against = ranked.topk(count, dim=1, largest=False).indices
    else:
        raise ValueError(f"method {contrast}: no rule for its coefficients; add one here")
    return own - torch.zeros_like(own).scatter(1, against, 1 / against.shape[1])


def contrast_maps(features: Tensor, weights: Tensor, coefficients: Tensor) -> Tensor:
    """The maps of M contrasts in one product.

    (B, C, H, W) features, (K, C) head weights and (B, M, K) coefficients -> (B, M, H, W).
    """
    return torch.einsum("bchw,bmc->bmhw", features.to(weights), coefficients.to(weights) @ weights)


def pointwise_information_shift(
    coefficients: Tensor, logits: Tensor, maps: Tensor, log_prior: Tensor
) -> Tensor:
    """What lifts maps so that their mean is pointwise mutual information, in nats.

    For contrasts, whose coefficients sum to zero, the mean becomes the difference of the PMI of the
    label and of the classes set against it; for `cam` the PMI of the label itself.

    Args:
        coefficients: (B, M, K) of the maps.
        logits: (B, K) PC-softmax logits: those of softmax less the log prior.
        maps: (B, M, H, W) of `contrast_maps`.
        log_prior: (K,) of the training data.

    Returns:
        (B, M, 1, 1), to be added to the maps.
    """
    information = pointwise_mutual_information(logits, log_prior)
    wanted = torch.einsum("bmk,bk->bm", coefficients.to(information), information)
    return (wanted - maps.mean(dim=(2, 3)))[..., None, None]


def region_filter(maps: Tensor, size: int, *, padding: str = "same") -> Tensor:
    """The mean of a square region around each position: (..., H, W) -> (..., H', W').

    Args:
        size: side of the square, odd; 1 changes nothing.
        padding: "same" keeps the size and takes the mean over positions inside the map;
            "legacy-full" sums zeros outside it too and grows the map by `size` - 1, which, once
            stretched to the image, shrinks it toward the centre, as the original code had it.

    Raises:
        UserError: a size that is even or not from 1 to `MAX_REGION`, or another padding.
    """
    if not 1 <= size <= MAX_REGION or size % 2 == 0:
        raise UserError(
            f"region {brief(str(size))}: use an odd number of cells, such as 1, 3 or 5, up to "
            f"{MAX_REGION}"
        )
    if padding not in PADDINGS:
        raise UserError(f"padding {padding!r}: use one of {', '.join(PADDINGS)}")
    if size == 1:
        return maps
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    if padding == "same":
        flat = F.avg_pool2d(flat, size, stride=1, padding=size // 2, count_include_pad=False)
    else:
        flat = F.avg_pool2d(F.pad(flat, [size - 1] * 4), size, stride=1)
    return flat.reshape(*maps.shape[:-2], *flat.shape[-2:])
