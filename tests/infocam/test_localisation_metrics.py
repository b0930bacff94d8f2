"""Localisation metrics by hand."""

import numpy as np
import pytest
from curve_checks import OURS, WSOL, evaluated, same
from hypothesis import given
from hypothesis import strategies as st

from infocam.scoring.metrics import Curves, box_iou, centre_curves, predicted_box
from mi_common.errors import UserError

box_strategy = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = box
    return {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


@given(st.lists(box_strategy, min_size=1, max_size=4), st.lists(box_strategy, min_size=1))
def test_iou_counts_pixels_and_is_symmetric(first, second):
    a, b = np.array(first), np.array(second)
    slow = [
        [len(pixels(p) & pixels(q)) / len(pixels(p) | pixels(q)) for q in second] for p in first
    ]
    assert box_iou(a, b).shape == (len(a), len(b))
    np.testing.assert_allclose(box_iou(a, b), slow, rtol=0, atol=1e-12)
    assert np.array_equal(box_iou(a, b), box_iou(b, a).T)


# Two images of 5 x 4 pixels, maps of the same size with three values: 8-bit levels 0, 127, 255.
SQUARE = np.array([[0, 0, 0, 0, 0], [0, 4, 4, 0, 0], [0, 4, 4, 2, 0], [0, 0, 0, 0, 0]], float)
BLOBS = np.array([[4, 4, 4, 0, 0], [4, 4, 4, 0, 2], [0, 0, 0, 0, 2], [0, 0, 0, 0, 2]], float)
MAPS = [SQUARE, BLOBS]
TRUTHS = [np.array([[1, 1, 2, 2]]), np.array([[4, 1, 4, 3]])]
SIZES = np.array([[5, 4], [5, 4]])
MASKS = [np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)]
MASKS[0][1:3, 1:3], MASKS[0][2, 3] = 1, 255
MASKS[1][1:, 4] = 1


def curves_of(maps=MAPS, boxes=TRUTHS, sizes=SIZES, masks=None, **options) -> Curves:
    return evaluated(maps, boxes, sizes, masks, **options)


def test_overlaps_of_two_maps_by_hand():
    curves = curves_of()
    # int(0.49 * 255) = 124 and int(0.5 * 255) = 127, where the level 127 is no longer above.
    low, high = slice(0, 50), slice(50, 100)
    # The square with its tail is 3 x 2 pixels, 4 of them true; without it, it is the truth.
    np.testing.assert_allclose(curves.largest[0, low], 4 / 6, rtol=1e-6)
    assert (curves.largest[0, high] == 1).all()
    # The larger blob is never the true one; the other is exactly, as long as it is above.
    assert (curves.largest[1] == 0).all()
    assert (curves.any_contour[1, low] == 1).all()
    assert (curves.any_contour[1, high] == 0).all()
    assert np.array_equal(curves.any_contour[0], curves.largest[0])


def test_pointing_game_and_energy_by_hand():
    curves = curves_of()
    assert curves.pointing.tolist() == [True, False]
    # Shares of the 0..1 map: 4 of 4.5, and three halves of 6 + 1.5.
    np.testing.assert_allclose(curves.energy, [4 / 4.5, 1.5 / 7.5], rtol=1e-6)


def test_pixel_scores_by_hand_with_an_ignored_pixel():
    curves = curves_of(masks=MASKS)
    # At 1: 4 true pixels and 6 false. At 0.5: 3 more true ones, and the ignored one, which does
    # not count. At 0: the other 15 and 11 pixels of the ground.
    assert curves.precision[[0, -1]].tolist() == [4 / 10, 7 / 39]
    assert sorted(set(curves.recall.tolist())) == [4 / 7, 1]
    assert curves.pxap == pytest.approx(4 / 10 * 4 / 7 + 7 / 13 * 3 / 7, abs=1e-12)
    # 4 of 7 + 6, 7 of 7 + 6, 7 of 39.
    assert curves.peak_iou == pytest.approx(7 / 13, abs=1e-12)
    without = curves_of()
    assert np.isnan(without.pxap) and np.isnan(without.peak_iou)


def test_the_best_of_several_true_boxes_counts():
    boxes = [np.array([[0, 0, 0, 0], [1, 1, 2, 2], [3, 3, 4, 3]]), np.array([[0, 0, 2, 1]])]
    curves = curves_of(boxes=boxes)
    assert np.array_equal(curves.largest[0], curves_of().largest[0])
    assert (curves.largest[1] == 1).all()
    assert curves.pointing.tolist() == [True, True]
    # Inside are the square's 4, nothing at 0 0, nothing in the last row; then 6 of 7.5.
    np.testing.assert_allclose(curves.energy, [4 / 4.5, 6 / 7.5], rtol=1e-6)


def test_a_constant_or_broken_map_points_nowhere_and_has_no_energy():
    broken = SQUARE.copy()
    broken[0, 0] = np.nan
    truths = [np.array([[0, 0, 4, 3]]), np.array([[0, 0, 0, 0]])]
    curves = curves_of([np.full((4, 5), 7.0), broken], truths)
    assert curves.pointing.tolist() == [False, False]
    assert np.isnan(curves.energy).all()
    # The box of nothing is the first pixel.
    np.testing.assert_allclose(curves.largest, [[1 / 20] * 100, [1] * 100], rtol=1e-6)


def test_a_normalisation_moves_the_boxes():
    values = SQUARE - 2  # 2 0 -2: by its maximum, the tail and the ground are zero
    assert (curves_of([values], TRUTHS[:1], SIZES[:1], normalisation="max").largest == 1).all()
    assert curves_of([values], TRUTHS[:1], SIZES[:1]).largest[0, 0] < 0.7


def test_a_batch_may_be_an_array_and_maps_smaller_than_images():
    same(curves_of(np.stack(MAPS)), curves_of(MAPS))
    small = np.array([[0.0, 1.0]])
    curves = curves_of([small], [np.array([[32, 0, 63, 63]])], np.array([[64, 64]]))
    assert curves.largest[0, 50] > 0.95  # bicubic: the border is half-way, within a pixel


def test_masks_without_foreground_are_one_line():
    with pytest.raises(UserError, match=r"^the masks have no foreground pixel"):
        curves_of(masks=[np.zeros((4, 5), np.uint8)] * 2)


def test_the_box_to_draw_is_in_pixels_of_the_image():
    assert predicted_box(SQUARE, SIZES[0], 0.5, OURS).tolist() == [1, 1, 2, 2]
    assert predicted_box(SQUARE, SIZES[0], 0.49, OURS).tolist() == [1, 1, 3, 2]
    # Stretched to 224 x 224 and back to 112 x 56: all of the right half.
    halves = np.repeat([[0.0, 1.0]], 2, axis=0)
    assert predicted_box(halves, np.array([112, 56]), 0.5, WSOL).tolist() == [56, 0, 111, 55]
    # And to 500 x 335: all that the last cell covers, to the last pixel.
    assert predicted_box(halves, np.array([500, 335]), 0.5, WSOL).tolist() == [250, 0, 499, 334]


def test_centre_boxes_by_hand():
    sides = np.array([0.5, 1.0])
    boxes = [np.array([[0, 0, 9, 9]]), np.array([[3, 3, 6, 6], [0, 0, 0, 0]])]
    curves = centre_curves(sides, boxes, np.array([[10, 10], [10, 10]]), OURS)
    # 5 x 5 pixels from 2 to 6 and the whole image; against 100 pixels, and 16.
    np.testing.assert_allclose(curves.largest, [[0.25, 1], [16 / 25, 0.16]], rtol=1e-6)
    assert curves.pointing.tolist() == [True, True]
    np.testing.assert_allclose(curves.energy, [1, 17 / 100])
    assert curves.thresholds is sides and curves.any_contour is curves.largest
