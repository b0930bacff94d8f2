"""ADL, the attention-based dropout layer of Choe and Shim (2019).

    add_adl(network, ["layer3.0", "layer4.0", "layer4.2"], gamma=0.9)

It hides the most discriminative positions of a feature map in some of the training steps, so that
the network learns from the rest of the object too. It works in training mode alone and has no
weights.
"""

import re

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError


def attention_dropout(features: Tensor, *, gamma: float, drop: bool) -> Tensor:
    """Features times a map of their own attention, the mean over channels.

    Args:
        features: (B, C, H, W).
        gamma: fraction of an image's greatest attention; positions from there on are hidden.
        drop: hide the positions of great attention; otherwise multiply all by the sigmoid of it.
    """
    attention = features.mean(dim=1, keepdim=True, dtype=torch.float32)
    if drop:
        weights = attention < gamma * attention.amax(dim=(2, 3), keepdim=True)
    else:
        weights = attention.sigmoid()
    return features * weights.to(features.dtype)


def add_adl(
    network: GlobalAveragePoolClassifier, layers: list[str], *, gamma: float, rate: float = 0.75
) -> list[RemovableHandle]:
    """Puts an attention-based dropout layer behind each named layer of the backbone.

    Each draws from torch's generator once a forward pass: with probability `rate` it
    hides, else it multiplies; see `attention_dropout`. The handles remove the layers.

    Args:
        layers: names inside the backbone, such as `layer4.0`; for VGG also `pool3` or `conv5_3`, a
            convolution with its ReLU. UserError for a layer that the network does not have, or
            that gives no (B, C, H, W) map.
    """
    root = getattr(network.backbone, "network", network.backbone)  # timm's are one level down
    by_paper = _vgg_layers(root)
    known = {name: part for name, part in root.named_modules() if name} | by_paper
    for layer in layers:
        if layer not in known:
            some = list(by_paper) or [name for name in known if re.fullmatch(r"\w+(\.\d+)?", name)]
            raise UserError(f"--adl {layer}: no such layer; there are {', '.join(some[-8:])}")
    modules = {layer: known[layer] for layer in layers}
    _check_maps(network, modules)

    def hook(module: nn.Module, _: tuple, output: Tensor) -> Tensor:
        if not module.training:
            return output
        return attention_dropout(output, gamma=gamma, drop=_draw(rate))

    return [module.register_forward_hook(hook) for module in modules.values()]


@torch.compiler.disable  # compiled, it would draw other numbers and compile for each of them
def _draw(rate: float) -> bool:
    """True with probability `rate`; drawn on the CPU: the same on every device, without a wait."""
    return torch.rand(()).item() < rate


@torch.no_grad()
def _check_maps(network: GlobalAveragePoolClassifier, layers: dict[str, nn.Module]) -> None:
    """UserError unless each layer gives a (B, C, H, W) map in a pass of the network."""
    outputs: dict[str, Tensor] = {}
    probes = [
        module.register_forward_hook(lambda *call, name=name: outputs.update({name: call[2]}))
        for name, module in layers.items()
    ]
    spec, training, device = network.spec, network.training, network.head.weight.device
    network.eval()(torch.zeros(1, len(spec.mean), spec.size, spec.size, device=device))
    network.train(training)
    for probe in probes:
        probe.remove()
    inner = getattr(network.backbone, "network", None)
    channels_last = getattr(inner, "output_fmt", None) == "NHWC"
    for name in layers:
        if channels_last or getattr(outputs.get(name), "ndim", 0) != 4:
            raise UserError(f"--adl {name}: that layer gives no (B, C, H, W) map")


def _vgg_layers(backbone: nn.Module) -> dict[str, nn.Module]:
    """The layers of a plain sequence by the names that the VGG paper's tables give them."""
    layers, block, number = {}, 1, 0
    for name, module in backbone.named_children():
        if not name.isdecimal():  # its layers have names
            return {}
        if isinstance(module, nn.Conv2d):
            number += 1
        elif isinstance(module, nn.ReLU):
            layers[f"conv{block}_{number}"] = module
        elif isinstance(module, nn.MaxPool2d):
            layers[f"pool{block}"] = module
            block, number = block + 1, 0
    return layers
