"""Insertion and deletion: areas computed by hand, and a slow loop with OpenCV's interpolation."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from infocam.scoring.boxes import resize_map
from infocam.scoring.faithfulness import insertion_deletion, pixel_ranks

SIDE = 4
REGION = torch.zeros(SIDE, SIDE, dtype=torch.bool)
REGION[1:3, 2:] = True  # 4 of 16 pixels
IMAGES = torch.full((1, 3, SIDE, SIDE), -1.0).masked_fill(REGION, 1)
LABELS = torch.tensor([1])


def seen(images: Tensor) -> Tensor:
    """Probability of class 1: share of the region's pixels that are as bright as before."""
    share = (images[:, 0, REGION] > 0.999).float().mean(dim=1)
    return torch.stack([1 - share, share], dim=1)


areas = partial(insertion_deletion, seen, IMAGES, labels=LABELS, blur_sigma=0.2)


@pytest.mark.parametrize(
    ("steps", "insertion"),
    [
        (16, 2 / 16 + 12 / 16),  # up in a line over the first four pixels, then one
        (4, 2 / 16 + 12 / 16),  # the corner of the line is a point of the curve
        (2, (1 / 2) / 2 + 1 / 2),  # up over the first half
        (3, (5 / 16) / 2 + 11 / 16),  # points at 0, 5, 10 and 16 pixels
        (1, 1 / 2),
        (40, 2 / 16 + 12 / 16),  # more steps than pixels
    ],
)
def test_areas_of_a_perfect_map_by_hand(steps, insertion):
    found = areas(REGION[None].float(), steps=steps)
    torch.testing.assert_close(found[0], torch.tensor([insertion]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1], torch.tensor([1 - insertion]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.3, -7.1, float("nan"), float("inf")])
@pytest.mark.parametrize("size", [3, SIDE])
def test_a_map_that_says_nothing_takes_pixels_in_reading_order(size, value):
    """The region's pixels are numbers 6, 7, 10 and 11 of 0..15."""
    insertion, deletion = areas(torch.full((1, size, size), value), steps=16)
    curve = [0] * 7 + [1, 2, 2, 2, 3] + [4] * 5  # pixels of the region among the first n
    by_hand = np.trapezoid(np.array(curve) / 4, dx=1 / 16)
    assert insertion.item() == pytest.approx(by_hand, abs=1e-6)
    assert deletion.item() == pytest.approx(1 - by_hand, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_silences_its_own_map_only(value):
    maps = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    alone = pixel_ranks(maps[1:], 5)
    maps[0, 1, 2] = value
    ranks = pixel_ranks(maps, 5)
    assert torch.equal(ranks[0], torch.arange(25).view(5, 5))
    assert torch.equal(ranks[1:], alone)


def test_maps_are_stretched_as_for_boxes():
    maps = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for found, values in zip(pixel_ranks(maps, 9), maps.numpy(), strict=True):
        order = np.argsort(-resize_map(values, 9, 9).ravel(), kind="stable")
        assert np.array_equal(found.flatten()[order].numpy(), np.arange(81))


PHOTO = 20


def linear(images: Tensor) -> Tensor:
    """Softmax of five random sums over all pixels, so that every pixel's place matters."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3 * PHOTO**2, 5, generator=generator) / PHOTO
    return (images.flatten(1) @ weights).softmax(dim=1)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, PHOTO, PHOTO, generator=generator)
    maps = torch.randn(3, 6, 6, generator=generator)
    return images, maps, torch.tensor([2, 0, 4])


def slow_curves(image, values, label, steps) -> np.ndarray:
    """(2, steps + 1) probabilities of one image, pixel by pixel from a sorted list."""
    resized = resize_map(values.numpy(), PHOTO, PHOTO)
    places = [divmod(place, PHOTO) for place in range(PHOTO**2)]
    places.sort(key=lambda place: -resized[place])
    blurred = gaussian_blur(image, [7, 7], [1.0, 1.0])
    curves = []
    for step in range(steps + 1):
        inserted, deleted = blurred.clone(), image.clone()
        for row, column in places[: step * PHOTO**2 // steps]:
            inserted[:, row, column] = image[:, row, column]
            deleted[:, row, column] = 0
        curves.append(linear(torch.stack([inserted, deleted]))[:, label].numpy())
    return np.stack(curves, axis=1)


def test_areas_equal_a_slow_loop(batch):
    steps = 6
    insertion, deletion = insertion_deletion(linear, *batch, steps=steps)
    shares = [step * 400 // steps / 400 for step in range(steps + 1)]
    for b, (image, values, label) in enumerate(zip(*batch, strict=True)):
        curves = slow_curves(image, values, label, steps)
        expected = np.trapezoid(curves, shares, axis=1)
        assert curves.std(axis=1).min() > 0.01  # else any areas would do
        assert [insertion[b].item(), deletion[b].item()] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_images_alone_and_in_batches_of_any_size_have_the_same_areas(batch, batch_size):
    """With seven points a curve, batches of four mix points of neighbouring images."""
    together = torch.stack(insertion_deletion(linear, *batch, steps=6, batch_size=batch_size))
    for b in range(3):
        row = [values[b : b + 1] for values in batch]
        alone = torch.stack(insertion_deletion(linear, *row, steps=6))
        torch.testing.assert_close(together[:, b : b + 1], alone, rtol=0, atol=1e-6)


def test_the_network_sees_no_more_images_at_once_than_allowed():
    sizes = []

    def spy(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return seen(images)

    images, maps = IMAGES.expand(5, -1, -1, -1), REGION.float().expand(5, -1, -1)
    insertion_deletion(spy, images, maps, torch.ones(5, dtype=torch.int64), steps=8, batch_size=7)
    assert max(sizes) == 7
    assert sum(sizes) == 2 * 5 * 9
