"""Gradient-based maps to compare with, in closed form.

    grad-cam    channels weighted by the mean gradient of the label's logit (Selvaraju et al. 2017)
    grad-cam++  by positive gradients of exp(logit), weighted over places (Chattopadhay et al. 2018)
    layer-cam   each place weighted by its positive gradient (Jiang et al. 2021)

After global average pooling and a linear head with weights w_y, the gradient of the label's logit
is w_y / (H W) at every place. So each method is a weight per channel, and no backward pass is
needed. grad-cam is the positive part of CAM, and layer-cam that of CAM with its positive weights.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def gradient_maps(method: str, features: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Maps of the labels, not normalised: (B, C, H, W) -> (B, H, W), never below zero.

    grad-cam++ is equation 19 of its paper, whose derivatives are powers of the gradient
    g = w / (H W): alpha = g^2 / (2 g^2 + g^3 sum A) = 1 / (2 + w mean A) at each of the H W places,
    over which alpha relu(g) is summed. The factor exp(logit) is left out. The features A should be
    non-negative, as after a ReLU.
    """
    weights = head.weight[labels]
    channels = {
        "grad-cam": weights / features[0, 0].numel(),
        "layer-cam": weights.relu() / features[0, 0].numel(),
        "grad-cam++": weights.relu() / (2 + weights * features.mean(dim=(2, 3))),
    }[method]
    return torch.einsum("bchw,bc->bhw", features, channels).relu()
