"""Scattered digits: repeatable canvases whose box is exactly the ink of the labelled digit."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from infocam.data import load as data
from infocam.data import scattered_digits
from infocam.data.scattered_digits import CANVAS, DIGIT_SIZES, INK
from mi_common.errors import UserError

DIGITS = load_digits()


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Real 8 x 8 digits, drawn 24 x 24 into 28 x 28."""
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 2:26, 2:26] = (DIGITS.images[:300] * 15.9).repeat(3, axis=1).repeat(3, axis=2)
    return torch.from_numpy(images), torch.from_numpy(DIGITS.target[:300]).long()


@pytest.fixture(scope="module")
def rectangles() -> tuple[torch.Tensor, torch.Tensor]:
    """Filled rectangles, 20 high and as wide as their class says."""
    images = torch.zeros(10, 28, 28, dtype=torch.uint8)
    for k in range(10):
        images[k, 4:24, 4 : 6 + 2 * k] = 200
    return images, torch.arange(10)


def draw(source, seed: int, *, count: int = 1, fragments: int | None = None):
    with pytest.MonkeyPatch.context() as patch:
        if fragments is not None:
            patch.setattr(scattered_digits, "FRAGMENTS", fragments)
        return scattered_digits.scattered_digits(*source, count, seed)


def test_the_same_seed_gives_the_same_canvases_and_another_one_others(digits):
    first, again, other = (draw(digits, seed, count=20) for seed in (5, 5, 6))
    assert (first[0].shape, first[0].dtype) == ((20, CANVAS, CANVAS), torch.uint8)
    assert (first[1].shape, first[1].dtype) == ((20,), torch.int64)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert np.array_equal(first[2], again[2])
    same = (first[0] == other[0]).flatten(1).all(dim=1)
    assert not same.any()
    assert not np.array_equal(first[2], other[2])


def test_box_is_the_ink_of_the_digit_and_fragments_stay_off_it(digits):
    touched = 0
    for seed in range(60):
        canvas, label, (box,) = draw(digits, seed)
        alone, same_label, (same_box,) = draw(digits, seed, fragments=0)
        assert torch.equal(label, same_label) and np.array_equal(box, same_box)
        ys, xs = np.nonzero(alone[0].numpy() >= INK)
        assert box.tolist() == [[xs.min(), ys.min(), xs.max(), ys.max()]]
        x0, y0, x1, y1 = box[0]
        assert 0 <= x0 <= x1 < CANVAS and 0 <= y0 <= y1 < CANVAS
        added = (canvas[0] != alone[0]).numpy()
        # nor on the pixels around the box, so that no contour joins the two
        assert not added[max(y0 - 1, 0) : y1 + 2, max(x0 - 1, 0) : x1 + 2].any()
        touched += added.any()
    assert touched > 55  # there are fragments


def test_label_size_and_shape_are_the_drawn_digits(rectangles):
    canvases, labels, boxes = draw(rectangles, 0, count=300, fragments=0)
    corners = np.concatenate(boxes)
    widths, heights = (corners[:, 2:] - corners[:, :2] + 1).T
    assert sorted(labels.unique().tolist()) == list(range(10))
    expected = labels.numpy() * 2 + 2  # of 20
    assert (np.abs(widths - heights * expected / 20) <= 0.5).all()
    assert (heights.min(), heights.max()) == DIGIT_SIZES
    # a filled rectangle leaves nothing outside its box
    assert (canvases > 0).sum(dim=(1, 2)).tolist() == (widths * heights).tolist()


@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        (lambda images: images[:0], 5, "no digits to draw from; the image file is too short"),
        (
            lambda images: images.clamp(max=INK - 1),
            5,
            "digit 0 is blank; download the digits again",
        ),
        (
            lambda images: images,
            10**12,
            r"10+ canvases: needs 20,480,000.0 GB of memory, .* GB are available; draw fewer",
        ),
    ],
)
def test_digits_that_cannot_be_drawn_are_one_line(rectangles, change, count, message):
    images, labels = rectangles
    with pytest.raises(UserError, match=rf"^scattered-digits[:,] {message}$"):
        scattered_digits.scattered_digits(change(images), labels, count, seed=0)


def test_parts_draw_from_digits_of_their_own(monkeypatch, rectangles, tmp_path):
    """The grey level says which window of which file a pixel comes from."""
    shape = rectangles[0] > 0
    train = torch.cat([shape * 100, shape * 150]).byte()
    files = {
        "train": (train, torch.arange(20) % 10),
        "test": ((shape * 200).byte(), torch.arange(10)),
    }
    monkeypatch.setattr(data, "idx_images", lambda name, folder, split: files[split])
    monkeypatch.setattr(data, "DIGITS_TRAIN_WINDOW", 10)
    parts = data.load_splits(
        "scattered-digits", tmp_path, images_per_class=5, val_per_class=2, test_images=40
    )
    grey = {part: d.images.unique().tolist() for part, d in parts.items()}
    assert grey == {"train": [0, 100], "validation": [0, 150], "test": [0, 200]}
    assert {part: len(d) for part, d in parts.items()} == {
        "train": 30,
        "validation": 20,
        "test": 40,
    }
    for part in parts.values():
        assert part.images.shape[1:] == (1, 64, 64)
        assert (part.sizes == 64).all() and part.sizes.shape == (len(part), 2)
        assert part.class_names == list("0123456789")
    validation, test = (parts[part].images[:20] > 0 for part in ("validation", "test"))
    assert not torch.equal(validation, test)  # another seed as well
