"""Gradient-based maps: closed forms against automatic differentiation, slowly, and by hand."""

import pytest
import torch
from torch import nn
from torchcam.methods import GradCAM, LayerCAM

from infocam.maps.gradient import gradient_maps
from infocam.names import GRADIENT_METHODS

LABELS = torch.tensor([2, 0])


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


@pytest.fixture
def features() -> torch.Tensor:
    """Non-negative, as after a ReLU: (2, 4, 2, 3)."""
    return torch.rand(2, 4, 2, 3, generator=torch.Generator().manual_seed(1)).double()


def slow_map(method: str, features: torch.Tensor, head: nn.Linear, label: int) -> torch.Tensor:
    """One image, (C, H, W), from the papers' definitions and gradients at every place."""
    features = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head(features.mean(dim=(1, 2)))[label], features)
    if method == "grad-cam":
        weights = gradient.mean(dim=(1, 2), keepdim=True)
    if method == "layer-cam":
        weights = gradient.relu()
    if method == "grad-cam++":
        weights = slow_grad_cam_plus_plus_weights(features.detach(), head, label)
    return (weights * features.detach()).sum(dim=0).relu()


def slow_grad_cam_plus_plus_weights(features, head, label: int) -> torch.Tensor:
    """(C, 1, 1) from derivatives of exp(logit) of order 1, 2, 3 at every place.

    A logit is linear in each place, so its third derivative along one place is all there is.
    """
    weights = torch.zeros(len(features), 1, 1, dtype=features.dtype)
    for c, i, j in torch.cartesian_prod(*map(torch.arange, features.shape)).tolist():
        place = features[c, i, j].clone().requires_grad_()
        moved = features.clone()
        moved[c, i, j] = place
        score = head(moved.mean(dim=(1, 2)))[label].exp()
        (first,) = torch.autograd.grad(score, place, create_graph=True)
        (second,) = torch.autograd.grad(first, place, create_graph=True)
        (third,) = torch.autograd.grad(second, place)
        alpha = second / (2 * second + features[c].sum() * third)
        weights[c] += (alpha * first.relu() / score).item()
    return weights


@pytest.mark.parametrize(
    ("method", "shift"),  # of the features, so that both signs are in each map
    [("grad-cam", 0.5), ("layer-cam", 0), ("layer-cam", 0.5), ("grad-cam++", 0)],
)
def test_maps_equal_their_definitions_by_automatic_differentiation(method, shift, features, head):
    features = features - shift
    maps = gradient_maps(method, features, head, LABELS)
    images = zip(features, LABELS.tolist(), strict=True)
    expected = [slow_map(method, image, head, label) for image, label in images]
    torch.testing.assert_close(maps, torch.stack(expected))
    assert maps.shape == (2, 2, 3) and not maps.requires_grad and maps.max() > 0


@pytest.mark.parametrize(("method", "extractor"), [("grad-cam", GradCAM), ("layer-cam", LayerCAM)])
def test_maps_are_torchcams(method, extractor, features, head):
    """Its grad-cam++ (0.5.0) divides a copy, so that the denominator has no effect."""
    tail = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    with extractor(tail, tail[0]) as extract:
        (theirs,) = extract(LABELS.tolist(), tail(features.requires_grad_()), normalized=False)
    torch.testing.assert_close(gradient_maps(method, features, head, LABELS), theirs)


def test_grad_cam_plus_plus_of_one_channel_by_hand():
    head = nn.Linear(1, 1)
    nn.init.constant_(head.weight, 3.0)
    features = torch.tensor([[[[0.0, 2.0]]]])  # mean 1, so 3 / (2 + 3 * 1) of the features
    maps = gradient_maps("grad-cam++", features, head, torch.tensor([0]))
    torch.testing.assert_close(maps, torch.tensor([[[0.0, 1.2]]]))


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_a_batch_inside_inference_mode_gives_what_its_images_give_alone(method, features, head):
    alone = [gradient_maps(method, features[i : i + 1], head, LABELS[i : i + 1]) for i in range(2)]
    with torch.inference_mode():
        together = gradient_maps(method, features * 1, head, LABELS)
    torch.testing.assert_close(together, torch.cat(alone))
