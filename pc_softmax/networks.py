"""The paper's small network for 28 x 28 grey images, one for any small ones, a cosine head."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec


class PaperNet(nn.Module):
    """conv 20@5, pool, conv 50@5, pool, fc 500, fc K: (B, 1, 28, 28) -> (B, K) logits.

    With `cosine_head`, as LDAM wants it, the last layer is a `CosineHead`.
    """

    def __init__(self, num_classes: int = 10, *, cosine_head: bool = False):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        last = CosineHead if cosine_head else nn.Linear
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(50 * 4 * 4, 500), nn.ReLU(), last(500, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.convolutions(images))


class CosineHead(nn.Module):
    """Cosines between features and class weights, in place of a last `nn.Linear`; no bias.

    (..., in_features) -> (..., out_features) in [-1, 1]. They are computed in float32, under
    autocast too: the loss multiplies them, and their rounding, by its scale.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        # Lengths cancel in the output but divide the gradient, so all weights start at length one.
        self.weight = nn.Parameter(F.normalize(torch.randn(out_features, in_features), dim=1))

    def forward(self, features: Tensor) -> Tensor:
        wide = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(
                F.normalize(features.to(wide), dim=-1), F.normalize(self.weight.to(wide), dim=-1)
            )


def small_cnn(channels: int, num_classes: int, pixels: InputSpec) -> GlobalAveragePoolClassifier:
    """Five 3 x 3 convolutions with batch norm and two halvings, for images of 8 to 64 pixels."""
    layers: list[nn.Module] = []
    for width, halve in ((64, False), (64, True), (128, False), (128, True), (256, False)):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), *[nn.MaxPool2d(2)] * halve]
        channels = width
    return GlobalAveragePoolClassifier(nn.Sequential(*layers), channels, num_classes, pixels)
