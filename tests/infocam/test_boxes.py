"""From a map to boxes: hand-made masks, one OpenCV call a threshold, peers for resizing."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from infocam.scoring.boxes import (
    _groups_of_masks,
    _peak_boxes,
    centre_boxes,
    contour_boxes,
    largest_contour_box,
    normalise,
    resize_map,
    to_8bit,
)
from mi_common.errors import UserError

MASKS = {
    "two blobs, the larger wins": ("##... ##... ..... ..### ..###", (2, 3, 4, 4)),
    "the larger stands first": ("###.. ###.. ..... ...## ...##", (0, 0, 2, 1)),
    "a block beats a longer line": ("##### ..... ..... ##... ##...", (0, 3, 1, 4)),
    "touching all borders": ("..#.. ..#.. ##### ..#.. ..#..", (0, 0, 4, 4)),
    "a single pixel": ("..... ..... ...#. ..... .....", (3, 2, 3, 2)),
    "a pixel in the corner": ("..... ..... ..... ..... ....#", (4, 4, 4, 4)),
    "a line of one pixel's width": ("..... .###. ..... ..... .....", (1, 1, 3, 1)),
    "empty": ("..... ..... ..... ..... .....", (0, 0, 0, 0)),
    "full": ("##### ##### ##### ##### #####", (0, 0, 4, 4)),
    "joined by a corner": (".##.. .##.. ...## ...## .....", (1, 0, 4, 3)),
    "a diagonal": ("#.... .#... ..#.. ..... .....", (0, 0, 2, 2)),
    "a hole counts as inside": ("####. #..#. #..#. ####. .....", (0, 0, 3, 3)),
    "a blob inside a ring is no rival": ("##### #...# #.#.# #...# #####", (0, 0, 4, 4)),
    "a thin ring beats a thick block": ("####. #..#. ####. ..... ...##", (0, 0, 3, 2)),
}
THOUSAND = np.arange(1000) / 1000


def mask_of(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in text.split()], np.uint8)


@pytest.mark.parametrize(("text", "box"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("value", [1, 255])
def test_box_of_a_mask_by_hand(text, box, value):
    assert largest_contour_box(mask_of(text) * value).tolist() == list(box)


def smooth_levels(seed: int, width: int, height: int, most: int = 255) -> np.ndarray:
    """A bicubic enlargement of 6 x 6 random numbers; below 255 levels there are many ties."""
    coarse = np.random.default_rng(seed).random((6, 6)).astype(np.float32)
    return (to_8bit(resize_map(coarse, width, height)) // (255 // most)).astype(np.uint8)


def direct(levels: np.ndarray, cut: int, far: str) -> tuple[tuple, list[tuple]]:
    """The box of the largest contour and the boxes of all, from one call of OpenCV."""
    height, width = levels.shape
    _, binary = cv2.threshold(levels, cut, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        box = (0, 0, 1, 1) if far == "beyond" else (0, 0, 0, 0)
        return box, [box]

    def box_of(contour) -> tuple:
        x, y, w, h = cv2.boundingRect(contour)
        if far == "inclusive":
            return x, y, x + w - 1, y + h - 1
        if far == "beyond":
            return x, y, x + w, y + h
        return x, y, min(x + w, width - 1), min(y + h, height - 1)

    every = [box_of(contour) for contour in contours]
    return box_of(max(contours, key=cv2.contourArea)), sorted(every)


@pytest.mark.parametrize("far", ["inclusive", "clipped", "beyond"])
@pytest.mark.parametrize("text", [text for text, _ in MASKS.values()], ids=MASKS)
def test_boxes_of_a_mask_by_each_convention_equal_opencvs(text, far):
    boxes, _ = contour_boxes(mask_of(text), np.array([0]), box_end=far)
    largest, every = direct(mask_of(text), 0, far)
    assert (tuple(boxes[0]), sorted(map(tuple, boxes.tolist()))) == (largest, every)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (31, 64), (9, 7)])
@pytest.mark.parametrize("most", [255, 17, 3])
@pytest.mark.parametrize("far", ["inclusive", "clipped", "beyond"])
def test_a_thousand_thresholds_equal_one_opencv_call_each(width, height, most, far):
    levels = smooth_levels(width + most, width, height, most)
    cuts = (THOUSAND * int(levels.max())).astype(int)
    cuts = np.concatenate([cuts, [int(levels.max()), 255]])  # nothing is above the last two
    np.random.default_rng(0).shuffle(cuts)
    boxes, starts = contour_boxes(levels, cuts, box_end=far)
    each = np.unique(starts).tolist()
    ends = dict(zip(each, [*each[1:], len(boxes)], strict=True))
    for cut, start in zip(cuts.tolist(), starts.tolist(), strict=True):
        largest, every = direct(levels, cut, far)
        assert tuple(boxes[start]) == largest, cut
        assert sorted(map(tuple, boxes[start : ends[start]].tolist())) == every, cut
    assert len(ends) == len(np.unique(levels))  # a call for each level that the map has


SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 14)))
def test_noise_at_all_thresholds_equals_one_opencv_call_each(levels):
    """With many components and holes, which appear, join and vanish from cut to cut."""
    cuts = np.arange(15)
    boxes, starts = contour_boxes(levels * 17, cuts * 17)
    ends = np.append(np.unique(starts), len(boxes))
    for cut, start in zip(cuts.tolist(), starts.tolist(), strict=True):
        largest, every = direct(levels, cut, "inclusive")
        of_cut = boxes[start : ends[np.searchsorted(ends, start) + 1]]
        assert (tuple(of_cut[0]), sorted(map(tuple, of_cut.tolist()))) == (largest, every), cut


@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 14)))
def test_masks_of_one_group_have_equally_many_contours(levels):
    groups = _groups_of_masks(levels)
    assert groups.shape == (257,) and (np.diff(groups) >= 0).all()
    counts: dict[int, set[int]] = {}
    for cut in range(-1, 15):
        mask = (levels > float(cut)).astype(np.uint8)
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        counts.setdefault(groups[cut + 1], set()).add(len(contours))
    assert all(len(of_group) == 1 for of_group in counts.values())


def test_opencv_is_called_for_few_masks_of_a_single_blob(monkeypatch):
    y, x = np.mgrid[:40, :60]
    levels = to_8bit(-np.hypot(x - 20, y - 30))
    find, calls = cv2.findContours, []
    monkeypatch.setattr(cv2, "findContours", lambda *args, **o: calls.append(1) or find(*args, **o))
    assert len(contour_boxes(levels, np.arange(255))[0]) > 200
    assert len(calls) < 10


@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 4)))
def test_the_largest_box_is_that_of_one_component_and_shrinks_inside_a_single_one(levels):
    cuts = np.arange(4)
    boxes, starts = contour_boxes(levels, cuts)
    whole = None  # the box of a single component: boxes of higher thresholds lie inside
    for cut, start in zip(cuts, starts, strict=True):
        box = boxes[start]
        components, count = ndimage.label(levels > cut, np.ones((3, 3)))
        expected = [
            [columns.start, rows.start, columns.stop - 1, rows.stop - 1]
            for rows, columns in ndimage.find_objects(components)
        ] or [[0, 0, 0, 0]]
        assert box.tolist() in expected
        if whole is not None and count:
            assert (box[:2] >= whole[:2]).all()
            assert (box[2:] <= whole[2:]).all()
        whole = box if count == 1 else whole


@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 4)), st.data())
@pytest.mark.parametrize("far", ["inclusive", "clipped", "beyond"])
def test_boxes_of_the_peak_are_those_of_its_component(far, levels, data):
    peak = data.draw(st.integers(0, levels.size - 1))
    cuts = np.array([2, 0, 4, 0, 3])
    boxes = _peak_boxes(levels * 60, cuts * 60, peak, far)
    for box, cut in zip(boxes, cuts, strict=True):
        components, _ = ndimage.label(levels > cut, np.ones((3, 3)))
        own = ((components == components.flat[peak]) & (levels > cut)).astype(np.uint8)
        (expected, *_), _ = contour_boxes(own, np.array([0]), box_end=far)
        assert box.tolist() == expected.tolist()


BY_HAND = np.array([[-2.0, 0.0], [1.0, 3.0]])


@pytest.mark.parametrize(
    ("how", "expected", "levels"),
    [
        # (v + 2) / 5 and its 255th parts, cut off
        ("minmax", [[0, 0.4], [0.6, 1]], [[0, 102], [153, 255]]),
        # v / 3, nothing below zero
        ("max", [[0, 0], [1 / 3, 1]], [[0, 0], [85, 255]]),
        # Percentiles of four values lie 0.03 of a gap inside: -1.94 and 2.94.
        ("percentile", [[0, 1.94 / 4.88], [2.94 / 4.88, 1]], [[0, 101], [153, 255]]),
    ],
)
def test_normalisations_by_hand(how, expected, levels):
    found = normalise(BY_HAND, how)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert to_8bit(BY_HAND, how).tolist() == levels
    assert to_8bit(BY_HAND, how).dtype == np.uint8


def test_percentiles_are_numpys_and_what_lies_outside_is_cut():
    values = np.random.default_rng(0).normal(size=(30, 20)) ** 3
    low, high = np.percentile(values, 1), np.percentile(values, 99)
    expected = (np.clip(values, low, high) - low) / (high - low)
    np.testing.assert_allclose(normalise(values, "percentile"), expected, rtol=0, atol=1e-5)
    assert (expected == 1).sum() == (normalise(values, "percentile") == 1).sum() == 6


@pytest.mark.parametrize("largest", [-1.0, 0.0])
def test_max_of_a_map_that_is_nowhere_positive_is_zero(largest):
    values = np.linspace(-5, largest, 12).reshape(3, 4)
    assert not normalise(values, "max").any()
    assert normalise(values, "minmax").max() == 1


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_8_bits_keep_the_order_and_the_endpoints(values):
    levels = to_8bit(values)
    if values.min() == values.max():
        assert not levels.any()
        return
    assert (levels.min(), levels.max()) == (0, 255)
    order = values.ravel().argsort()
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
@pytest.mark.parametrize("how", ["minmax", "max", "percentile"])
def test_constant_and_non_finite_maps_give_zeros_and_the_neutral_box(bad, how):
    values = np.full((5, 5), -3.5, np.float32)
    if bad is not None:
        values = np.arange(25, dtype=np.float32).reshape(5, 5)
        values[2, 2] = bad
    with np.errstate(all="raise"):  # what a cast of NaN gives depends on the machine
        levels = to_8bit(values, how)
    assert levels.tolist() == [[0] * 5] * 5
    boxes, starts = contour_boxes(levels, np.arange(255))
    assert boxes.tolist() == [[0, 0, 0, 0]]
    assert not starts.any()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (40, 21)])
def test_resizing_is_bicubic_as_in_opencv_and_torch(width, height):
    values = np.random.default_rng(0).normal(size=(7, 6))
    found = resize_map(values, width, height)
    assert (found.shape, found.dtype) == ((height, width), np.float32)
    theirs = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(found, theirs)
    inputs = torch.from_numpy(values)[None, None].float()
    theirs = torch.nn.functional.interpolate(inputs, (height, width), mode="bicubic")[0, 0]
    np.testing.assert_allclose(found, theirs.numpy(), rtol=0, atol=1e-4)


def test_centre_boxes_by_hand():
    sides = np.array([0.001, 0.5, 0.3, 1.0])
    assert centre_boxes(10, 7, sides).tolist() == [
        [4, 3, 4, 3],  # at least one pixel
        [2, 1, 6, 4],  # 5 x 4 (3.5 rounds to the even number)
        [3, 2, 5, 3],  # 3 x 2
        [0, 0, 9, 6],
    ]


@given(st.integers(1, 80), st.integers(1, 80), st.lists(st.floats(0.001, 1), min_size=1))
def test_centre_boxes_are_centred_inside_and_nested(width, height, fractions):
    boxes = centre_boxes(width, height, np.sort(np.array(fractions)))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] < width).all() and (boxes[:, 3] < height).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    slack = np.array([width, height]) - 1 - boxes[:, 2:] - boxes[:, :2]
    assert ((slack == 0) | (slack == 1)).all()
    assert (np.diff(boxes[:, 2:] - boxes[:, :2], axis=0) >= 0).all()


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(UserError, match="'softmax': use one of minmax, max, percentile"):
        normalise(np.eye(3), "softmax")
