"""Batch norms within convolutions: the maps of the network as it is, with fewer layers."""

import copy

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.folding import fold_batch_norms


class Flow(nn.Module):
    """Layers in the order that `run` gives them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images):
        return self.run(self, images)


class Scaled(nn.Conv2d):
    """A convolution that does not use its weights as they are."""

    def forward(self, images):
        scale = self.weight.square().mean().sqrt()
        return nn.functional.conv2d(images, self.weight / scale, self.bias)


def network_of(backbone: nn.Module, channels: int) -> GlobalAveragePoolClassifier:
    network = GlobalAveragePoolClassifier(backbone, channels, 3, InputSpec(20)).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for name, low in {
                "weight": -1,
                "bias": -1,
                "running_mean": -1,
                "running_var": 0.2,
            }.items():
                getattr(module, name).data.uniform_(low, 2, generator=generator)
    return network


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def both(a, b):
    return torch.cat([a, b], dim=1)


# Each with the number of batch norms that stay, and whether a line says that nothing is folded.
NETWORKS = {
    "plain": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), 4, 0, 0),
    "with a bias and groups": (
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, groups=3), nn.BatchNorm2d(6)),
        6,
        0,
        0,
    ),
    "timm's, with an activation": (
        nn.Sequential(Conv2dSame(3, 4, 3, stride=2), BatchNormAct2d(4, act_layer=nn.ReLU6)),
        4,
        0,
        0,
    ),
    "before the convolution": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 4, 1, 0),
    "behind an activation in place": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)),
        4,
        1,
        0,
    ),
    "a convolution that runs twice": (
        Flow(
            lambda m, x: both(m.a(m.conv(x)), m.b(m.conv(x))),
            conv=nn.Conv2d(3, 4, 3),
            a=nn.BatchNorm2d(4),
            b=nn.BatchNorm2d(4),
        ),
        8,
        2,
        0,
    ),
    "a batch norm that runs twice": (
        Flow(
            lambda m, x: both(m.norm(m.a(x)), m.norm(m.b(x))),
            a=nn.Conv2d(3, 4, 3),
            b=nn.Conv2d(3, 4, 3),
            norm=nn.BatchNorm2d(4),
        ),
        8,
        1,
        0,
    ),
    "statistics of each batch": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        4,
        1,
        0,
    ),
    "an output that is read twice": (
        Flow(
            lambda m, x: (lambda y: both(m.norm(y), y))(m.conv(x)),
            conv=nn.Conv2d(3, 4, 3),
            norm=nn.BatchNorm2d(4),
        ),
        8,
        1,
        1,
    ),
    "a convolution of another type": (nn.Sequential(Scaled(3, 4, 3), nn.BatchNorm2d(4)), 4, 1, 0),
    "none": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 4, 0, 0),
}


@pytest.mark.parametrize(("backbone", "channels", "left", "lines"), NETWORKS.values(), ids=NETWORKS)
def test_maps_are_those_of_the_network_as_it_is(backbone, channels, left, lines, capsys):
    torch.manual_seed(0)
    network = network_of(copy.deepcopy(backbone), channels)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norms(network)
    assert batch_norms(folded) == left
    images = torch.randn(5, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(folded.features(images), network.features(images))
    assert len(capsys.readouterr().out.splitlines()) == lines
    assert (folded is network) == (left == batch_norms(network))
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "densenet121"])
def test_float16_maps_of_known_networks_differ_by_rounding_alone(name):
    torch.manual_seed(0)
    weights = "imagenet" if name == "efficientnet_lite0" else "none"
    network = build_backbone(name, weights=weights, image_size=64).eval()
    state = torch.get_rng_state()
    folded = fold_batch_norms(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert batch_norms(folded) <= batch_norms(network) / 1.9
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        found, expected = (n.features(images).half().numpy() for n in (folded, network))
    assert 0 < (found != expected).mean() < 0.02
    step, near_zero = 2**-10, 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=step, atol=near_zero)


def test_gradients_reach_the_network_but_not_the_copy():
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 4)
    folded = fold_batch_norms(network)
    images = torch.randn(2, 3, 20, 20)
    network.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.backbone.parameters())
    assert not folded.training and all(p.grad is None for p in folded.parameters())
