"""A frozen network whose batch norms are part of the convolutions before them.

In evaluation mode a batch norm is a linear function of each channel. Within a convolution's weights
it takes no time; as a layer of its own it reads and writes all activations once more.
"""

import copy

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mi_common.backbones import GlobalAveragePoolClassifier

TOLERANCE = 1e-3  # of a map's largest value; rounding in float32 changes it by some 1e-6
# By exact type: a subclass may use its weights in another way.
_CONVOLUTIONS, _BATCH_NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)


@torch.no_grad()
def fold_batch_norms(network: GlobalAveragePoolClassifier) -> GlobalAveragePoolClassifier:
    """A copy of a network in evaluation mode that computes the same maps with fewer layers.

    The network itself is returned if no batch norm reads the output of a convolution. So it is if
    the copy's map of a random image differs by more than `TOLERANCE`, because something else reads
    that output too; then a line says so.
    """
    network.eval()
    if not any(type(module) in _BATCH_NORMS for module in network.modules()):
        return network
    shape, device = (len(network.spec.mean), *[network.spec.size] * 2), network.head.weight.device
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    image = image.to(device, memory_format=torch.channels_last)
    folded = copy.deepcopy(network)
    convolution_before, maps = _run_and_pair(folded, image)
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if child in convolution_before:
                setattr(parent, name, _fold(convolution_before[child], child))
    difference, largest = (folded.features(image) - maps).abs().max(), maps.abs().max()
    if difference <= TOLERANCE * largest:
        return folded if convolution_before else network
    print(
        "batch norms are not folded into convolutions: a value of a map would change by "
        f"{difference:.2g} (the largest is {largest:.2g})",
        flush=True,
    )
    return network


def _run_and_pair(
    network: GlobalAveragePoolClassifier, image: Tensor
) -> tuple[dict[nn.Module, nn.Module], Tensor]:
    """The convolution before each batch norm, where both run once, and the maps of an image."""
    calls: list[nn.Module] = []
    pairs: dict[nn.Module, nn.Module] = {}

    def after_convolution(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        calls.append(module)
        output.made_by = module, output._version  # operations in place change the version

    def before_batch_norm(module: nn.Module, inputs: tuple) -> None:
        calls.append(module)
        convolution, version = getattr(inputs[0], "made_by", (None, None))
        if convolution is not None and version == inputs[0]._version:
            pairs[module] = convolution

    hooks = []
    for module in network.modules():
        if type(module) in _CONVOLUTIONS:
            hooks.append(module.register_forward_hook(after_convolution))
        elif type(module) in _BATCH_NORMS and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before_batch_norm))
    maps = network.features(image)
    for hook in hooks:
        hook.remove()
    once = {module for module in calls if calls.count(module) == 1}
    return {norm: conv for norm, conv in pairs.items() if {norm, conv} <= once}, maps


def _fold(convolution: nn.Module, batch_norm: nn.Module) -> nn.Module:
    """Changes the convolution's weights; returns what is left of the batch norm."""
    statistics = batch_norm.running_mean, batch_norm.running_var, batch_norm.eps
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, *statistics, batch_norm.weight, batch_norm.bias
    )
    if isinstance(batch_norm, BatchNormAct2d):
        return batch_norm.act  # its dropout does nothing in evaluation mode
    return nn.Identity()
