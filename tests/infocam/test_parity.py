"""Our maps beside those of captum, torchcam and scipy."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import convolve2d
from torch import Tensor, nn
from torchcam.methods import CAM

from infocam.maps.cam import coefficients, contrast_maps, region_filter
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.errors import UserError

# The value whose gradient captum takes, from the label's logit and those of the other classes.
TARGETS = {
    "cam": lambda own, others: own,
    "infocam": lambda own, others: own - others.mean(dim=1),
    "infocam+": lambda own, others: own - others.amin(dim=1),
    "lowest:3": lambda own, others: own - others.sort(dim=1).values[:, :3].mean(dim=1),
    "similar": lambda own, others: own - others.amax(dim=1),
    "posterior": lambda own, others: own - (others.detach().softmax(1) * others).sum(1),
}


def small_network(num_classes: int) -> GlobalAveragePoolClassifier:
    torch.manual_seed(num_classes)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2))
    network = GlobalAveragePoolClassifier(trunk, 6, num_classes, InputSpec(15)).eval()
    network.head.bias.data.normal_(std=0.3)
    return network


@torch.no_grad()
def our_maps(network, images, contrast: str, labels: Tensor) -> Tensor:
    row = coefficients(contrast, network(images), labels).unsqueeze(1)
    return contrast_maps(network.features(images), network.head.weight, row).squeeze(1)


def captums_maps(network, images, target) -> Tensor:
    """captum weighs channels by the mean of the gradient over positions; ours takes its sum."""
    attribution = LayerGradCam(target, network.backbone).attribute(images, relu_attributions=False)
    return attribution.detach().squeeze(1) * attribution[0, 0].numel()


@pytest.mark.parametrize("contrast", TARGETS)
@pytest.mark.parametrize("k", [2, 5, 30])
def test_each_contrast_is_captums_signed_grad_cam_of_the_same_contrast_of_logits(k, contrast):
    network = small_network(k)
    images = torch.randn(4, 3, 15, 15)
    labels = torch.tensor([0, 1, k - 1, 0])

    def target(inputs: Tensor) -> Tensor:
        logits = network(inputs)
        is_label = torch.arange(k) == labels[:, None]
        return TARGETS[contrast](logits[is_label], logits[~is_label].view(-1, k - 1))

    ours = our_maps(network, images, contrast, labels)
    assert ours.shape == (4, 7, 7)
    torch.testing.assert_close(captums_maps(network, images, target), ours, rtol=0, atol=1e-5)
    assert ours.min() < -0.01 < 0.01 < ours.max()  # signed


def test_a_contrast_with_one_class_is_captums_grad_cam_of_the_difference_of_two_logits():
    network = small_network(5)
    images = torch.randn(4, 3, 15, 15)
    labels = torch.tensor([0, 1, 4, 3])

    def target(inputs: Tensor) -> Tensor:
        logits = network(inputs)
        return logits[torch.arange(4), labels] - logits[:, 2]

    ours = our_maps(network, images, "class:2", labels)
    torch.testing.assert_close(captums_maps(network, images, target), ours, rtol=0, atol=1e-5)
    assert ours.abs().max() > 0.01


def test_cam_is_torchcams_after_min_max_normalisation():
    network = small_network(5)
    images = torch.randn(3, 3, 15, 15)
    with CAM(network, target_layer="backbone", fc_layer="head") as extractor:
        logits = network(images)
        for label in range(5):
            (theirs,) = extractor([label] * 3, logits)
            ours = our_maps(network, images, "cam", torch.full((3,), label))
            low, high = ours.amin(dim=(1, 2), keepdim=True), ours.amax(dim=(1, 2), keepdim=True)
            torch.testing.assert_close(theirs, (ours - low) / (high - low), rtol=0, atol=1e-4)


maps_and_sizes = given(
    maps=arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
        elements=st.floats(-10, 10),
    ),
    size=st.sampled_from([1, 3, 5, 9]),
)


@settings(max_examples=40)
@maps_and_sizes
def test_a_region_is_the_mean_over_its_positions_inside_the_map(maps, size):
    found = region_filter(torch.from_numpy(maps), size).numpy()
    assert found.shape == maps.shape
    reach = size // 2
    for b, row, column in np.ndindex(maps.shape):
        rows = range(max(row - reach, 0), min(row + reach + 1, maps.shape[1]))
        columns = range(max(column - reach, 0), min(column + reach + 1, maps.shape[2]))
        inside = [maps[b, r, c] for r in rows for c in columns]
        assert found[b, row, column] == pytest.approx(sum(inside) / len(inside), abs=1e-9)


@settings(max_examples=40)
@maps_and_sizes
def test_the_legacy_padding_is_scipys_full_convolution(maps, size):
    found = region_filter(torch.from_numpy(maps), size, padding="legacy-full").numpy()
    box = np.full((size, size), 1 / size**2)
    expected = np.stack([convolve2d(values, box, mode="full") for values in maps])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_regions_of_maps_with_any_leading_dimensions_by_hand():
    values = torch.tensor([[9.0, 0, 0], [0, 0, 0], [0, 0, 18]])
    same = torch.tensor([[9 / 4, 9 / 6, 0], [9 / 6, 3, 3], [0, 3, 18 / 4]])
    torch.testing.assert_close(region_filter(values, 3), same, rtol=0, atol=1e-6)
    stacked = torch.stack([values, 2 * values]).view(2, 1, 3, 3)
    expected = torch.stack([same, 2 * same]).view(2, 1, 3, 3)
    torch.testing.assert_close(region_filter(stacked, 3), expected, rtol=0, atol=1e-6)
    full = region_filter(stacked, 3, padding="legacy-full")
    assert full.shape == (2, 1, 5, 5)
    torch.testing.assert_close(
        full.sum(dim=(2, 3)), torch.tensor([[27.0], [54]]), rtol=0, atol=1e-5
    )
    assert full[0, 0, 0, 0] == 1 and full[0, 0, 4, 4] == 2 and full[0, 0, 2, 2] == 3


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("padding", ["same", "legacy-full"])
def test_a_region_that_has_no_centre_is_a_user_error(size, padding):
    with pytest.raises(UserError, match=f"region {size}: use an odd number of cells"):
        region_filter(torch.zeros(3, 3), size, padding=padding)
