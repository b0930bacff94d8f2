"""Gradient-based maps against formulas by hand and against automatic differentiation, slowly."""

import sys

import pytest
import torch
from torch import nn

from infocam.maps.cam import class_maps
from infocam.maps.gradient import GRADIENT_METHODS, gradient_maps
from mi_common.errors import UserError


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


@pytest.fixture
def features() -> torch.Tensor:
    """Non-negative, as after a ReLU: (2, 4, 2, 3)."""
    return torch.rand(2, 4, 2, 3, generator=torch.Generator().manual_seed(1)).double()


LABELS = torch.tensor([2, 0])


def slow_grad_cam_plus_plus(features: torch.Tensor, head: nn.Linear, label: int) -> torch.Tensor:
    """One image, (C, H, W): derivatives of exp(logit) of order 1, 2, 3 at every place, by autograd.

    A logit is linear in each place, so its third derivative along one place is all there is.
    """
    channels, height, width = features.shape
    result = torch.zeros(height, width, dtype=features.dtype)
    for c in range(channels):
        total = 0.0
        for i in range(height):
            for j in range(width):
                place = features[c, i, j].clone().requires_grad_()
                moved = features.clone()
                moved[c, i, j] = place
                score = head(moved.mean(dim=(1, 2)))[label].exp()
                (first,) = torch.autograd.grad(score, place, create_graph=True)
                (second,) = torch.autograd.grad(first, place, create_graph=True)
                (third,) = torch.autograd.grad(second, place)
                alpha = second / (2 * second + features[c].sum() * third)
                total += (alpha * first.relu() / score).item()
        result += total * features[c]
    return result.relu()


def test_grad_cam_is_the_positive_part_of_cam_over_the_number_of_places(features, head):
    features = features - 0.5  # both signs in each map
    own = class_maps(features, head.weight)[range(2), LABELS]
    found = gradient_maps("grad-cam", features, head, LABELS)
    assert (own < 0).any() and (own > 0).any()
    torch.testing.assert_close(found, own.relu() / 6)


def test_layer_cam_leaves_out_the_channels_of_negative_weight(features, head):
    for image, label, found in zip(
        features, LABELS, gradient_maps("layer-cam", features, head, LABELS), strict=True
    ):
        expected = sum(w * f for w, f in zip(head.weight[label] / 6, image, strict=True) if w > 0)
        torch.testing.assert_close(found, expected)


def test_grad_cam_plus_plus_equals_its_definition_by_automatic_differentiation(features, head):
    found = gradient_maps("grad-cam++", features, head, LABELS)
    expected = [
        slow_grad_cam_plus_plus(image, head, label)
        for image, label in zip(features, LABELS.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_grad_cam_plus_plus_of_one_channel_by_hand():
    head = nn.Linear(1, 1)
    nn.init.constant_(head.weight, 3.0)
    features = torch.tensor([[[[0.0, 2.0]]]])  # mean 1, so 3 / (2 + 3 * 1) of the features
    found = gradient_maps("grad-cam++", features, head, torch.tensor([0]))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.2]]]))


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_a_batch_gives_what_its_images_give_alone(method, features, head):
    together = gradient_maps(method, features, head, LABELS)
    alone = [gradient_maps(method, features[i : i + 1], head, LABELS[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.shape == (2, 2, 3) and not together.requires_grad


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_the_head_keeps_weights_gradients_mode_and_hooks(method, features, head):
    head(features.mean(dim=(2, 3))).sum().backward()
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in head.named_parameters()}
    gradient_maps(method, features[:1], head, LABELS[:1])
    for name, p in head.named_parameters():
        assert torch.equal(p, before[name]) and torch.equal(p.grad, gradients[name])
        assert p.requires_grad
    assert not head._forward_hooks and head.training


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_maps_inside_inference_mode_are_the_same(method, features, head):
    expected = gradient_maps(method, features, head, LABELS)
    with torch.inference_mode():
        inside = gradient_maps(method, features * 1, head, LABELS)
        assert torch.is_inference(features * 1)
    assert torch.equal(inside, expected)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
def test_without_torchcam_the_package_to_install_is_named(method, features, head, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcam.methods", None)
    with pytest.raises(UserError, match=f"method {method}: .*pip install torchcam"):
        gradient_maps(method, features, head, LABELS)
