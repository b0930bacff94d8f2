"""Contrasts, their maps and what is made of them on fake CUDA tensors."""

import pytest
import torch
from fake_cuda import CUDA, assert_on_cuda, fake_cuda
from torch import nn

from infocam.localise import Maps, method_maps
from infocam.maps.cam import coefficients, contrast_maps, pointwise_information_shift, region_filter
from infocam.maps.gradient import gradient_maps
from infocam.names import CONTRASTS, GRADIENT_METHODS, PADDINGS, RANDOM
from infocam.scoring.faithfulness import insertion_deletion, pixel_ranks

IMAGES, CLASSES, CHANNELS, SIDE = 3, 5, 7, 4
ALL_CONTRASTS = (*CONTRASTS, "lowest:2", "class:1")


@pytest.fixture
def head() -> nn.Linear:
    return nn.Linear(CHANNELS, CLASSES).requires_grad_(False)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Feature maps, logits and labels on the device; to be called on the fake one."""
    features = torch.rand(IMAGES, CHANNELS, SIDE, SIDE, device=CUDA, dtype=dtype)
    logits = torch.randn(IMAGES, CLASSES, device=CUDA, dtype=dtype)
    return features, logits, torch.randint(CLASSES, (IMAGES,), device=CUDA)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("contrast", ALL_CONTRASTS)
def test_every_contrast_and_its_maps_stay_on_the_device(head, contrast, dtype):
    with fake_cuda():
        features, logits, labels = inputs(dtype)
        rows = coefficients(contrast, logits, labels)
        assert_on_cuda(rows, IMAGES, CLASSES)
        maps = contrast_maps(features, head.to(CUDA).weight, rows[:, None])
        assert_on_cuda(maps, IMAGES, 1, SIDE, SIDE)


def test_regions_and_shifts_stay_on_the_device(head):
    with fake_cuda():
        features, logits, labels = inputs()
        weights = head.to(CUDA).weight
        maps = torch.rand(IMAGES, CLASSES, SIDE, SIDE, device=CUDA)
        sides = {"same": SIDE, "legacy-full": SIDE + 2}
        for padding in PADDINGS:
            side = sides[padding]
            assert_on_cuda(region_filter(maps, 3, padding=padding), IMAGES, CLASSES, side, side)
        rows = coefficients("infocam", logits, labels)[:, None]
        maps = contrast_maps(features, weights, rows)
        log_prior = torch.randn(CLASSES, device=CUDA)
        shift = pointwise_information_shift(rows, logits, maps, log_prior)
        assert_on_cuda(shift, IMAGES, 1, 1, 1)
        with pytest.raises(RuntimeError, match="device"):
            pointwise_information_shift(rows, logits, maps.cpu(), log_prior)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_gradient_maps_stay_on_the_device(head, method):
    with fake_cuda():
        features, _, labels = inputs()
        maps = gradient_maps(method, features, head.to(CUDA), labels)
        assert_on_cuda(maps, IMAGES, SIDE, SIDE)
        with pytest.raises(RuntimeError, match="device"):
            gradient_maps(method, features.cpu(), head, labels)


@pytest.mark.parametrize("prior", [False, True])
def test_all_methods_of_an_evaluation_stay_on_the_device(head, prior):
    methods = [*ALL_CONTRASTS, *GRADIENT_METHODS, RANDOM]
    with fake_cuda():
        features, logits, labels = inputs()
        given = torch.randn(CLASSES, device=CUDA)
        shifts = {"prior_shift": -given, "log_prior": given} if prior else {}
        maps = method_maps(Maps(methods, [1, 3], **shifts), features, head.to(CUDA), labels, logits)
        for values in maps.values():
            assert_on_cuda(values, IMAGES, SIDE, SIDE)
    assert list(maps) == [(method, region) for method in methods for region in (1, 3)]


def test_a_prior_left_on_the_cpu_is_an_error_of_the_evaluation(head):
    with fake_cuda(), pytest.raises(RuntimeError, match="device"):
        features, logits, labels = inputs()
        options = Maps(["cam"], [1], prior_shift=torch.randn(CLASSES))
        method_maps(options, features, head.to(CUDA), labels, logits)


def test_insertion_and_deletion_stay_on_the_device():
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES), nn.Softmax(dim=1))
    with fake_cuda():
        classifier.to(CUDA)
        images = torch.rand(IMAGES, 3, 16, 16, device=CUDA)
        maps, labels = torch.rand(IMAGES, SIDE, SIDE, device=CUDA), inputs()[2]
        ranks = pixel_ranks(maps, 16)
        assert_on_cuda(ranks, IMAGES, 16, 16, dtype=torch.int64)
        inserted, deleted = insertion_deletion(classifier, images, maps, labels, steps=4)
        assert_on_cuda(inserted, IMAGES)
        assert_on_cuda(deleted, IMAGES)
        with pytest.raises(RuntimeError, match="device"):
            insertion_deletion(classifier, images.cpu(), maps, labels, steps=4)
