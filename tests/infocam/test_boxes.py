"""From a map to a box: hand-made masks, slow versions, peers for the interpolation."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from infocam.boxes import (
    THRESHOLDS,
    boxes_at_thresholds,
    centre_boxes,
    largest_contour_box,
    resize_map,
    to_8bit,
)

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


def mask_of(text: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in text.split()], np.uint8)


@pytest.mark.parametrize(("text", "box"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("value", [1, 255])
def test_box_of_a_mask_by_hand(text, box, value):
    assert largest_contour_box(mask_of(text) * value).tolist() == list(box)


def test_a_tie_is_one_of_the_equals_and_the_same_every_time():
    mask = mask_of("##... ##... ..... ...## ...##")
    box = largest_contour_box(mask).tolist()
    assert box in ([0, 0, 1, 1], [3, 3, 4, 4])
    assert all(largest_contour_box(mask.copy()).tolist() == box for _ in range(5))


def test_8_bits_run_from_0_to_255_and_cut_fractions_off():
    levels = to_8bit(np.array([[-2.0, 0.0], [1.0, 3.0]], np.float32))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [[0, 102], [153, 255]]
    assert to_8bit(np.array([[0.0, 0.999, 1.0]])).tolist() == [[0, 254, 255]]


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
def test_constant_and_non_finite_maps_give_zeros_and_the_neutral_box(bad):
    values = np.full((5, 5), 3.5, np.float32)
    if bad is not None:
        values = np.arange(25, dtype=np.float32).reshape(5, 5)
        values[2, 2] = bad
    with np.errstate(all="raise"):  # what a cast of NaN gives depends on the machine
        levels = to_8bit(values)
    assert levels.tolist() == [[0] * 5] * 5
    boxes = boxes_at_thresholds(levels)
    assert boxes.shape == (len(THRESHOLDS), 4)
    assert not boxes.any()


def slow_boxes(levels: np.ndarray, thresholds: np.ndarray) -> list[list[int]]:
    """One OpenCV call a threshold, as the evaluation of Choe et al. does it."""
    boxes = []
    for threshold in thresholds:
        cut = int(threshold * int(levels.max()))
        _, binary = cv2.threshold(levels, cut, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        box = [0, 0, 0, 0]
        if len(contours):
            x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
            box = [x, y, x + w - 1, y + h - 1]
        boxes.append(box)
    return boxes


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [255, 100, 7])
def test_boxes_at_thresholds_equal_one_call_a_threshold(seed, most):
    rng = np.random.default_rng(seed)
    coarse = rng.random((5, 5)).astype(np.float32)
    levels = (to_8bit(resize_map(coarse, 40, 30)) * (most / 255)).astype(np.uint8)
    thresholds = np.concatenate([THRESHOLDS, [1.0], rng.random(20)])  # in no order
    assert boxes_at_thresholds(levels, thresholds).tolist() == slow_boxes(levels, thresholds)


def test_foreground_is_strictly_above_the_whole_number_below_t_times_max():
    levels = np.array([[0, 57, 58, 59, 200, 200]], np.uint8)
    # 0.29 * 200 is 57.99999999999999 in floats, so its cut is 57; 0.295 * 200 is 59.
    thresholds = np.array([0.0, 0.29, 0.295, 0.999, 1.0])
    first = boxes_at_thresholds(levels, thresholds)[:, 0].tolist()
    assert [int(t * 200) for t in thresholds] == [0, 57, 59, 199, 200]
    assert first == [1, 2, 4, 4, 0]


def test_thresholds_are_hundredths_from_0():
    assert THRESHOLDS.tolist() == [i / 100 for i in range(100)]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))
)
def test_each_box_is_that_of_one_component_and_shrinks_inside_a_single_one(levels):
    thresholds = np.array([0, 0.3, 0.55, 0.8])
    boxes = boxes_at_thresholds(levels, thresholds)
    whole = None  # the box of a single component: boxes of higher thresholds lie inside
    for threshold, box in zip(thresholds, boxes, strict=True):
        mask = levels > int(threshold * levels.max())
        components, count = ndimage.label(mask, np.ones((3, 3)))
        expected = [
            [columns.start, rows.start, columns.stop - 1, rows.stop - 1]
            for rows, columns in ndimage.find_objects(components)
        ] or [[0, 0, 0, 0]]
        assert box.tolist() in expected
        if whole is not None and count:
            assert (box[:2] >= whole[:2]).all()
            assert (box[2:] <= whole[2:]).all()
        whole = box if count == 1 else whole


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel with OpenCV's a."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def weights_1d(inputs: int, outputs: int) -> np.ndarray:
    matrix = np.zeros((outputs, inputs))
    for i in range(outputs):
        place = (i + 0.5) * inputs / outputs - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            matrix[i, min(max(tap, 0), inputs - 1)] += cubic(place - tap)
    return matrix


@pytest.mark.parametrize(("width", "height"), [(64, 64), (40, 21)])
def test_resizing_is_bicubic_as_in_opencv_torch_and_on_paper(width, height):
    values = np.random.default_rng(0).normal(size=(7, 6))
    found = resize_map(values, width, height)
    assert (found.shape, found.dtype) == ((height, width), np.float32)
    by_hand = weights_1d(7, height) @ values @ weights_1d(6, width).T
    np.testing.assert_allclose(found, by_hand, rtol=0, atol=1e-4)
    inputs = torch.from_numpy(values)[None, None].float()
    theirs = nn_bicubic(inputs, (height, width))
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-4)


def nn_bicubic(inputs: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    return torch.nn.functional.interpolate(inputs, size, mode="bicubic")[0, 0].numpy()


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
