"""Class activation maps and their informative contrasts, as pure functions of tensors.

A linear head with weights w (K, C) follows the global average pooling of feature maps F (B, C, H,
W). The map of class k is sum_c w_kc F_c. It is signed: no bias, no ReLU. Its mean over positions is
the class's logit without the bias. So a contrast of classes splits a difference of logits, which is
a difference of pointwise mutual information, over the image:

    cam         the label's own map                                   (Zhou et al. 2016)
    infocam     less the mean map of the other classes                (Qin et al. 2019)
    infocam+    less the map of the least likely of the other classes (Qin et al. 2019)
    lowest:N    less the mean map of the N least likely of the other classes
    similar     less the map of the most likely of the other classes
    posterior   less the mean of the other classes' maps, weighted by their probability
    class:NAME  less the map of one class, by name or number: "why this and not that"

Each contrast is a row of class coefficients, so only the maps that are needed are computed. The
given logits say which classes are likely: softmax logits contain the class prior, PC-softmax logits
do not. Features in half precision are raised to the precision of the head's weights.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infocam.maps.gradient import gradient_maps
from infocam.maps.propagation import propagate_at_stage, with_propagation
from infocam.names import GRADIENT_METHODS, PADDINGS, RANDOM
from mi_common.errors import UserError
from mi_common.information import at_least_float32, pointwise_mutual_information


def coefficients(contrast: str, logits: Tensor, labels: Tensor) -> Tensor:
    """The weight of each class's map in a contrast: (B, K) logits, (B,) labels -> (B, K).

    The label's weight is one. The other weights are zero for `cam`, and sum to minus one for every
    contrast. If N is the label itself, the row of `class:N` is zero.

    Args:
        contrast: one of `CONTRASTS`, `class:NUMBER` or `lowest:N`; N above K - 1 means K - 1.
        logits: finite; a constant added to a row changes nothing. Fewer than two classes, like a
            contrast without a rule, are a UserError.
    """
    kind, _, argument = ("lowest:1" if contrast == "infocam+" else contrast).partition(":")
    logits = at_least_float32(logits)
    is_label = F.one_hot(labels, logits.shape[1]).to(logits)
    if contrast == "cam":
        return is_label
    others = logits.shape[1] - 1
    if others < 1:
        raise UserError(f"method {contrast}: a contrast needs two classes, there is one")
    if contrast == "infocam":
        return is_label - (1 - is_label) / others
    if contrast == "posterior":
        return is_label - logits.masked_fill(is_label.bool(), -torch.inf).softmax(dim=1)
    if contrast == "similar":
        opponents = logits.masked_fill(is_label.bool(), -torch.inf).argmax(dim=1, keepdim=True)
    elif kind == "class":
        opponents = torch.full_like(labels, int(argument))[:, None]
    elif kind == "lowest":
        ranked = logits.masked_fill(is_label.bool(), torch.inf)
        opponents = ranked.topk(min(int(argument), others), dim=1, largest=False).indices
    else:
        raise UserError(f"method '{contrast}': no such contrast")
    return is_label - torch.zeros_like(is_label).scatter(1, opponents, 1 / opponents.shape[1])


def contrast_maps(features: Tensor, weights: Tensor, coefficients: Tensor) -> Tensor:
    """The maps of M contrasts in one product.

    (B, C, H, W) features, (K, C) head weights and (B, M, K) coefficients -> (B, M, H, W).
    """
    return torch.einsum("bchw,bmc->bmhw", features.to(weights), coefficients.to(weights) @ weights)


def pointwise_information_shift(
    coefficients: Tensor, logits: Tensor, maps: Tensor, log_prior: Tensor
) -> Tensor:
    """The constant that makes the mean of each map pointwise mutual information, in nats.

    The coefficients of a contrast sum to zero: its mean becomes the PMI of the label less that of
    the subtracted classes. The mean of `cam` becomes the PMI of the label itself.

    (B, M, K) coefficients, (B, K) PC-softmax logits, the (B, M, H, W) maps and the (K,) log prior
    of the training data -> (B, M, 1, 1), to be added to the maps.
    """
    information = pointwise_mutual_information(logits, log_prior)
    target_means = torch.einsum("bmk,bk->bm", coefficients.to(information), information)
    return (target_means - maps.mean(dim=(2, 3)))[..., None, None]


def region_filter(maps: Tensor, size: int, *, padding: str = "same") -> Tensor:
    """The mean of a square region around each position: (..., H, W) -> (..., H', W').

    Args:
        size: side of the square, odd (else UserError); 1 changes nothing.
        padding: "same" keeps the size and takes the mean over positions inside the map;
            "legacy-full", as in the original code, averages zeros outside it too and enlarges the
            map by `size` - 1. Stretched to the image, it shrinks toward the centre.
    """
    if size % 2 == 0:
        raise UserError(f"region {size}: use an odd number of cells, such as 1, 3 or 5")
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


@dataclass(frozen=True)
class Maps:
    """How maps are made and turned into boxes."""

    methods: list[str]  # contrasts of this module, methods of `infocam.maps.gradient`, and `RANDOM`
    regions: list[int]  # sides of the region filters; 1 is no filter
    padding: str = "same"  # of the region filter
    normalisation: str = "minmax"  # see `boxes.normalise`
    # (K,) What turns logits into PC-softmax logits: minus the log prior for a network trained by
    # softmax, zeros for PC-softmax.
    prior_shift: Tensor | None = None
    log_prior: Tensor | None = None  # (K,) of the training data; None: maps without bias and prior
    exponents: tuple[float, ...] = ()  # of propagated maps beside the others; see `propagate`
    # of a second propagation, over the features of an earlier stage; see `propagate_at_stage`
    earlier_exponents: tuple[float, ...] = ()


def propagated(method: str, *exponents: float) -> str:
    """The name of a method's maps after one or two propagations, such as `infocam~4`."""
    return "~".join([method, *(f"{exponent:g}" for exponent in exponents)])


def method_maps(
    options: Maps,
    features: Tensor,
    head: nn.Linear,
    labels: Tensor,
    logits: Tensor,
    earlier: Tensor | None = None,
) -> dict[tuple[str, int], Tensor]:
    """(B, h, w) maps by method and region, from (B, C, h, w) features and (B, K) logits.

    Propagated maps have no region filter, no unit and no zero, and there are none of `RANDOM`.
    After two propagations they have the size of the (B, C', H', W') features of an earlier stage.
    """
    contrasts = [m for m in options.methods if m not in (*GRADIENT_METHODS, RANDOM)]
    unfiltered, rows = {}, None
    if contrasts:
        if options.prior_shift is not None:
            logits = logits + options.prior_shift
        rows = torch.stack([coefficients(name, logits, labels) for name in contrasts], dim=1)
        maps = contrast_maps(features, head.weight, rows)
        unfiltered = dict(zip(contrasts, maps.unbind(dim=1), strict=True))
    for method in set(options.methods) & set(GRADIENT_METHODS):
        unfiltered[method] = gradient_maps(method, features, head, labels)
    if RANDOM in options.methods:
        generator = torch.Generator().manual_seed(0)  # the same direction for all images
        direction = torch.randn(features.shape[1], generator=generator).to(features)
        unfiltered[RANDOM] = torch.einsum("bchw,c->bhw", features, direction)
    filtered = {}
    for method, region in itertools.product(options.methods, options.regions):
        maps = region_filter(unfiltered[method], region, padding=options.padding)
        if options.log_prior is not None and method in contrasts:
            row, maps = rows[:, [contrasts.index(method)]], maps[:, None]
            shift = pointwise_information_shift(row, logits, maps, options.log_prior)
            maps = (maps + shift)[:, 0]
        filtered[method, region] = maps
    methods = [method for method in options.methods if method != RANDOM]
    for exponent in options.exponents:
        maps = torch.stack([unfiltered[method] for method in methods])
        maps = with_propagation(maps, features, exponent)
        names = [(method, exponent) for method in methods]
        filtered |= {(propagated(*name), 1): m for name, m in zip(names, maps, strict=True)}
        for second in options.earlier_exponents:
            twice = propagate_at_stage(maps, earlier, second)
            for name, values in zip(names, twice, strict=True):
                filtered[propagated(*name, second), 1] = values
    return filtered
