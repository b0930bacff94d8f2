"""Propagation of maps over similar features: a slow loop, values by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from infocam.maps.cam import Maps, method_maps
from infocam.maps.propagation import propagate, scale_to_unit, with_propagation


def slow_propagation(values: Tensor, features: Tensor, exponent: float) -> Tensor:
    """One (H, W) map over (C, H, W) features, place by place."""
    height, width = values.shape
    values, features = values.flatten(), features.flatten(1).double()
    places = range(height * width)
    result = torch.zeros(height * width, dtype=torch.float64)
    for here in places:
        total, norm = 0.0, 0.0
        for there in places:
            a, b = features[:, here], features[:, there]
            cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
            weight = max(cosine, 0.0) ** exponent
            total, norm = total + weight * float(values[there]), norm + weight
        result[here] = total / norm
    return result.reshape(height, width)


@pytest.mark.parametrize("exponent", [0.5, 1, 4, 9])
def test_propagation_equals_the_slow_loop(exponent):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator)  # two methods, three images
    features = torch.randn(3, 6, 4, 5, generator=generator)
    for method in range(2):
        expected = torch.stack(
            [slow_propagation(maps[method, i], features[i], exponent) for i in range(3)]
        )
        found = propagate(maps, features, exponent)[method]
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
        both = scale_to_unit(maps[method]).double() + scale_to_unit(expected)
        found = with_propagation(maps, features, exponent)[method].double()
        torch.testing.assert_close(found, both, rtol=0, atol=1e-5)


def test_like_places_share_their_mean_and_unlike_ones_keep_theirs():
    """Two directions at right angles, and a place without features."""
    features = torch.tensor([[[[1.0, 2.0, 0.0, 0.0]], [[0.0, 0.0, 3.0, 0.0]]]])
    found = propagate(torch.tensor([[[1.0, 5.0, 7.0, 9.0]]]), features, 4)
    assert found.tolist() == [[[3, 3, 7, 9]]]
    opposite = torch.tensor([[[[1.0, -1.0]]]])
    assert propagate(torch.tensor([[[1.0, 5.0]]]), opposite, 4).tolist() == [[[1, 5]]]


def test_a_constant_map_stays_zero():
    features = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert not with_propagation(torch.full((1, 5, 5), 5.0), features, 4).any()


def test_propagated_maps_stand_beside_those_of_every_method_but_the_random_one():
    generator = torch.Generator().manual_seed(0)
    features, head = torch.rand(2, 6, 3, 3, generator=generator), nn.Linear(6, 4)
    labels, logits = torch.tensor([1, 3]), torch.randn(2, 4, generator=generator)
    options = Maps(["infocam", "grad-cam", "random"], [1, 3], exponents=(2, 4.5))
    found = method_maps(options, features, head.requires_grad_(False), labels, logits)
    unfiltered = [(m, r) for m in options.methods for r in (1, 3)]
    names = ["infocam~2", "grad-cam~2", "infocam~4.5", "grad-cam~4.5"]
    assert list(found) == [*unfiltered, *((name, 1) for name in names)]
    expected = with_propagation(found["infocam", 1], features, 4.5)
    torch.testing.assert_close(found["infocam~4.5", 1], expected)
