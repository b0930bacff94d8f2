"""What other scripts need to load a network of `pc_softmax.train`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.errors import UserError
from mi_common.records import RunFolder


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
            unit, classes = (F.normalize(v.to(wide), dim=-1) for v in (features, self.weight))
            return F.linear(unit, classes)


def small_cnn(channels: int, num_classes: int, spec: InputSpec) -> GlobalAveragePoolClassifier:
    """Five 3 x 3 convolutions with batch norm and two halvings, for images of 8 to 64 pixels."""
    layers: list[nn.Module] = []
    for width, halve in ((64, False), (64, True), (128, False), (128, True), (256, False)):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), *[nn.MaxPool2d(2)] * halve]
        channels = width
    return GlobalAveragePoolClassifier(nn.Sequential(*layers), channels, num_classes, spec)


def input_of_run(run: RunFolder) -> tuple[InputSpec, int]:
    """Size and scale of the network's input, and the channels of the images, by result.json.

    UserError for a run of an earlier version, which does not say.
    """
    values = run.result().get("input")
    if not isinstance(values, dict) or values.keys() != {"size", "mean", "std", "channels"}:
        raise UserError(f"{run.path}/result.json: no size of its images in it; train again")
    spec = InputSpec(values["size"], tuple(values["mean"]), tuple(values["std"]))
    return spec, values["channels"]
