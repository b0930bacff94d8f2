"""Class activation maps and their informative contrasts, as pure functions of tensors.

With feature maps F (B, C, H, W) and the weights w (K, C) of a linear head after global average
pooling, the map of class k is sum_c w_kc F_c. It is signed: no bias, no ReLU. Its mean over
positions is the class's logit without the bias, so the contrasts split a difference of logits,
that is of pointwise mutual information, over the image.
"""

import torch
from torch import Tensor

from common.errors import UserError

METHODS = ("cam", "infocam", "infocam+")


def class_maps(features: Tensor, weights: Tensor) -> Tensor:
    """Activation maps of all classes: (B, C, H, W) and (K, C) -> (B, K, H, W)."""
    return torch.einsum("bchw,kc->bkhw", features, weights)


def cam(maps: Tensor, labels: Tensor) -> Tensor:
    """The label's own map (Zhou et al. 2016): (B, K, H, W) and (B,) -> (B, H, W)."""
    return maps[torch.arange(len(maps), device=maps.device), labels]


def infocam(maps: Tensor, labels: Tensor) -> Tensor:
    """The label's map minus the mean map of the other classes (Qin et al. 2019, infoCAM).

    Equal to K / (K - 1) times the difference to the mean over all classes, which needs one sum.
    (B, K, H, W) and (B,) -> (B, H, W); K must be at least 2.
    """
    num_classes = maps.shape[1]
    return num_classes / (num_classes - 1) * (cam(maps, labels) - maps.mean(dim=1))


def infocam_plus(maps: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
    """The label's map minus the map of the image's least likely class (infoCAM+).

    (B, K, H, W), (B,) and (B, K) logits -> (B, H, W).
    """
    return cam(maps, labels) - cam(maps, logits.argmin(dim=1))


def localisation_map(method: str, maps: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
    """The (B, H, W) map of a method's name.

    Raises:
        UserError: an unknown method.
    """
    if method == "cam":
        return cam(maps, labels)
    if method == "infocam":
        return infocam(maps, labels)
    if method == "infocam+":
        return infocam_plus(maps, labels, logits)
    raise UserError(f"method {method!r}: use one of {', '.join(METHODS)}")
