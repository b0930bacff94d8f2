"""Gradient-based maps to compare with, from feature maps that are already there.

    grad-cam    channels weighted by the mean gradient of the label's logit (Selvaraju et al. 2017)
    grad-cam++  by positive gradients of exp(logit), weighted over places (Chattopadhay et al. 2018)
    layer-cam   each place by its own positive gradient (Jiang et al. 2021)

All end in a ReLU. After global average pooling and a linear head the gradient is w_y / (H W) at
every place, so grad-cam is the positive part of CAM, and layer-cam that of its positive weights.
"""

import copy

import torch
from torch import Tensor, nn

from mi_common.errors import UserError

GRADIENT_METHODS = ("grad-cam", "grad-cam++", "layer-cam")


class _PoolAndHead(nn.Module):
    """What follows the feature maps, with a layer of its own to hook them at."""

    def __init__(self, head: nn.Linear):
        super().__init__()
        self.maps = nn.Identity()
        self.head = copy.deepcopy(head)  # no gradient or hook reaches the caller's

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.maps(features).mean(dim=(2, 3)))


def gradient_maps(method: str, features: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Maps of the labels, none below zero and none normalised: (B, C, H, W) -> (B, H, W).

    grad-cam and layer-cam come from the optional package torchcam. Its grad-cam++ (0.5.0) divides
    a copy, so that the denominator below has no effect; that method is therefore written out here.

    Args:
        method: one of `GRADIENT_METHODS`.
        head: linear, on the mean over places; it is left as it was.
        labels: (B,) int64.

    Raises:
        UserError: torchcam is not installed.
    """
    if method == "grad-cam++":
        return _grad_cam_plus_plus(features, head.weight[labels])
    try:
        from torchcam.methods import GradCAM, LayerCAM
    except ImportError as error:
        raise UserError(f"method {method}: needs torchcam; pip install torchcam") from error
    # Inside a caller's inference mode nothing, not even under enable_grad, would have a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        tail = _PoolAndHead(head)
        features = features.detach().clone().requires_grad_()
        extractor = {"grad-cam": GradCAM, "layer-cam": LayerCAM}[method](tail, tail.maps)
        with extractor:
            return extractor(labels.tolist(), tail(features), normalized=False)[0]


@torch.no_grad()
def _grad_cam_plus_plus(features: Tensor, weights: Tensor) -> Tensor:
    """Equation 19 of the paper, whose derivatives are powers of the gradient g = w / (H W).

    alpha = g^2 / (2 g^2 + g^3 sum A) = 1 / (2 + w mean A), the same at each of the H W places, over
    which alpha relu(g) is summed; the factor exp(logit) is left out. Features A are meant to be
    non-negative, as after a ReLU.
    """
    channels = weights.relu() / (2 + weights * features.mean(dim=(2, 3)))
    return torch.einsum("bchw,bc->bhw", features, channels).relu()
