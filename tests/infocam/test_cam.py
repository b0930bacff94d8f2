"""Class activation maps: slow loops, identities, and the peers captum and torchcam."""

import itertools

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torchcam.methods import CAM

from common.backbones import GlobalAveragePoolClassifier, InputSpec
from common.errors import UserError
from infocam.cam import METHODS, cam, class_maps, infocam, infocam_plus, localisation_map
from infocam.networks import small_cnn

B, C, H, W = 3, 6, 4, 5


@pytest.fixture(params=[2, 5], ids=["K=2", "K=5"])
def head(request) -> nn.Linear:
    torch.manual_seed(request.param)
    head = nn.Linear(C, request.param)
    head.bias.data *= 20  # large enough to change which class is least likely
    return head.requires_grad_(False)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([1, 0, 1])


def slow_map(features, weights, k) -> np.ndarray:
    """Sum over channels of one image's features times the weights of class k."""
    total = np.zeros(features.shape[1:])
    for c in range(len(features)):
        total += float(weights[k, c]) * features[c].double().numpy()
    return total


def slow_maps(method, features, weights, labels, logits) -> np.ndarray:
    found = []
    for image, y, scores in zip(features, labels.tolist(), logits.tolist(), strict=True):
        own = slow_map(image, weights, y)
        if method == "infocam":
            others = [slow_map(image, weights, k) for k in range(len(weights)) if k != y]
            own = own - sum(others) / len(others)
        if method == "infocam+":
            own = own - slow_map(image, weights, scores.index(min(scores)))
        found.append(own)
    return np.stack(found)


@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_slow_loops(head, features, labels, method):
    maps = class_maps(features, head.weight)
    logits = head(features.mean(dim=(2, 3)))
    found = localisation_map(method, maps, labels, logits)
    expected = slow_maps(method, features, head.weight, labels, logits)
    assert found.shape == (B, H, W)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_infocam_plus_ranks_classes_by_the_given_logits_with_their_bias(features):
    weights = torch.randn(4, C, generator=torch.Generator().manual_seed(0))
    maps = class_maps(features, weights)
    plain = maps.mean(dim=(2, 3))
    labels = torch.zeros(B, dtype=torch.int64)
    for least in range(1, 4):
        logits = plain - 100 * torch.eye(4)[least]
        assert torch.equal(infocam_plus(maps, labels, logits), maps[:, 0] - maps[:, least])


def test_infocam_is_a_scaled_difference_to_the_mean_of_all_classes(head, features, labels):
    k = len(head.weight)
    maps = class_maps(features, head.weight)
    others = [[j for j in range(k) if j != y] for y in labels.tolist()]
    mean_others = torch.stack([maps[b, rest].mean(dim=0) for b, rest in enumerate(others)])
    scaled = k / (k - 1) * (cam(maps, labels) - maps.mean(dim=1))
    assert torch.allclose(cam(maps, labels) - mean_others, scaled, atol=1e-5)
    assert torch.allclose(infocam(maps, labels), scaled, atol=1e-5)


def test_two_classes_have_one_contrast(features):
    maps = class_maps(features, torch.randn(2, C, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 1, 1])
    contrast = maps[:, 0] - maps[:, 1]
    signs = torch.tensor([1.0, -1, -1])[:, None, None]
    assert torch.allclose(infocam(maps, labels), signs * contrast, atol=1e-5)
    other_is_least = nn.functional.one_hot(labels, 2).float()
    assert torch.equal(infocam_plus(maps, labels, other_is_least), signs * contrast)
    label_is_least = 1 - other_is_least
    assert torch.equal(infocam_plus(maps, labels, label_is_least), torch.zeros(B, H, W))


def test_mean_of_a_classs_map_and_the_bias_make_the_networks_logit():
    torch.manual_seed(0)
    network = small_cnn(num_classes=7).eval().requires_grad_(False)
    network.head.bias.data += torch.arange(7)
    images = torch.rand(2, 1, 64, 64)
    maps = class_maps(network.features(images), network.head.weight)
    logits = maps.mean(dim=(2, 3)) + network.head.bias
    assert torch.allclose(logits, network(images), atol=1e-5)


def test_a_vector_added_to_all_head_weights_changes_cam_but_no_contrast(head, features, labels):
    logits = head(features.mean(dim=(2, 3)))
    shift = torch.linspace(-2, 3, C)
    before, after = (class_maps(features, w) for w in (head.weight, head.weight + shift))
    assert torch.allclose(infocam(before, labels), infocam(after, labels), atol=1e-4)
    plus = [infocam_plus(maps, labels, logits) for maps in (before, after)]
    assert torch.allclose(*plus, atol=1e-4)
    assert (cam(before, labels) - cam(after, labels)).abs().max() > 1


def test_unknown_method_is_a_user_error(features, labels):
    with pytest.raises(UserError, match=r"method 'gradcam': use one of cam, infocam, infocam\+"):
        localisation_map("gradcam", features, labels, torch.zeros(B, C))


def small_network(num_classes: int) -> GlobalAveragePoolClassifier:
    torch.manual_seed(num_classes)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, C, 3, stride=2))
    return GlobalAveragePoolClassifier(trunk, C, num_classes, InputSpec(15)).eval()


@pytest.mark.parametrize("k", [2, 5])
def test_infocam_is_captums_signed_grad_cam_of_the_logit_contrast(k):
    network = small_network(k)
    images = torch.randn(4, 3, 15, 15)
    labels = torch.arange(4) % k

    def contrast(inputs):
        logits = network(inputs)
        own = logits.gather(1, labels[:, None]).squeeze(1)
        return own - (logits.sum(dim=1) - own) / (k - 1)

    attribution = LayerGradCam(contrast, network.trunk).attribute(images, relu_attributions=False)
    with torch.no_grad():
        features = network.features(images)
        own = infocam(class_maps(features, network.head.weight), labels)
    height, width = own.shape[1:]
    assert (height, width) == (7, 7)
    found = attribution.detach().squeeze(1) * height * width
    torch.testing.assert_close(found, own, rtol=0, atol=1e-5)
    assert own.min() < -0.01 < 0.01 < own.max()  # signed


def test_cam_is_torchcams_after_min_max_normalisation():
    network = small_network(5)
    images = torch.randn(3, 3, 15, 15)
    with CAM(network, target_layer="trunk", fc_layer="head") as extractor:
        logits = network(images)
        for label in range(5):
            (theirs,) = extractor([label] * 3, logits)
            with torch.no_grad():
                maps = class_maps(network.features(images), network.head.weight)
            ours = cam(maps, torch.full((3,), label))
            low, high = ours.amin(dim=(1, 2), keepdim=True), ours.amax(dim=(1, 2), keepdim=True)
            torch.testing.assert_close(theirs, (ours - low) / (high - low), rtol=0, atol=1e-4)


def test_methods_differ_on_the_same_maps(features, labels):
    weights = torch.randn(5, C, generator=torch.Generator().manual_seed(0))
    maps = class_maps(features, weights)
    logits = maps.mean(dim=(2, 3))
    found = [localisation_map(method, maps, labels, logits) for method in METHODS]
    assert all((a - b).abs().max() > 0.1 for a, b in itertools.combinations(found, 2))
