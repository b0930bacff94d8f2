"""Three protocols: their thresholds, frames, true boxes and averages, by hand and by simulation."""

import cv2
import matplotlib
import numpy as np
import pytest

from infocam.scoring.metrics import box_iou
from infocam.scoring.protocols import PROTOCOLS

OURS, WSOL, LEGACY = PROTOCOLS.values()


def test_thresholds_are_hundredths_thousandths_and_twentieths():
    assert OURS.thresholds.tolist() == [i / 100 for i in range(100)]
    assert OURS.cuts.tolist() == [int(i / 100 * 255) for i in range(100)]
    assert LEGACY.thresholds.tolist() == [i / 20 for i in range(20)]
    # 0.05 * 255 is 12.75; the cuts go up by 12 or 13.
    assert LEGACY.cuts.tolist()[:5] == [0, 12, 25, 38, 51]
    assert LEGACY.cuts[-1] == 242


def test_a_thousand_thresholds_are_255_cuts_each_at_the_lowest_that_makes_it():
    assert WSOL.cuts.tolist() == list(range(255))
    every = np.arange(0, 1, 0.001)  # as the benchmark makes them
    for cut, threshold in zip(WSOL.cuts, WSOL.thresholds, strict=True):
        same = [t for t in every if int(t * 255) == cut]
        assert threshold == pytest.approx(min(same), abs=1e-12)
    assert len(WSOL.cuts) == len(WSOL.thresholds) == 255
    assert len({int(t * 255) for t in every}) == 255


def test_true_boxes_by_hand():
    boxes, size = np.array([[60, 27, 385, 331], [0, 0, 499, 334]]), np.array([500, 335])
    assert [rules.size(size) for rules in (OURS, WSOL, LEGACY)] == [(500, 335), *[(224, 224)] * 2]
    assert OURS.truths(boxes, size).tolist() == boxes.tolist()
    # 60 * 224 / 500 = 26.88, 27 * 224 / 335 = 18.05, 172.48, 221.3; 223.55 and 223.33.
    assert WSOL.truths(boxes, size).tolist() == [[26, 18, 172, 221], [0, 0, 223, 223]]
    # 60 / 500 * 223 + 1 = 27.76 and so on, not rounded.
    expected = [[27.76, 27 / 335 * 223 + 1, 172.71, 331 / 335 * 223 + 1]]
    expected += [[1, 1, 499 / 500 * 223 + 1, 334 / 335 * 223 + 1]]
    np.testing.assert_allclose(LEGACY.truths(boxes, size), expected, rtol=0, atol=1e-9)


def test_grey_levels_of_cubehelix_are_opencvs_of_matplotlibs_colours():
    colours = matplotlib.colormaps["cubehelix"](np.arange(256, dtype=np.uint8))[None, :, :3]
    colours = (colours.astype(np.float32) * 255).astype(np.uint8)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[0]
    found = LEGACY.levels(np.arange(256, dtype=np.uint8))
    assert found.dtype == np.uint8
    assert found.tolist() == expected.tolist()
    assert (found[0], found[255]) == (0, 255)
    assert np.array_equal(WSOL.levels(found), found)
    assert np.array_equal(OURS.levels(found), found)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 256, 1000])
def test_legacy_weights_are_means_of_running_means_in_order_of_class(count):
    rng = np.random.default_rng(count)
    labels, hits = rng.integers(0, 10, count), rng.random(count) < 0.4
    in_order = [i for label in range(10) for i in range(count) if labels[i] == label]
    total = 0.0
    for start in range(0, count, 128):
        end = min(start + 128, count)
        total += hits[in_order[:end]].mean() * (end - start)  # the running mean after this batch
    weights = LEGACY.weights(labels)
    assert weights @ hits == pytest.approx(total / count, abs=1e-12)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert OURS.weights(labels).tolist() == WSOL.weights(labels).tolist() == [1 / count] * count


def test_boxes_apart_in_both_directions_score_up_to_a_half_and_beyond_in_the_legacy_overlap():
    # Sides of 10 and a gap of 8 pixels between: (-8) ** 2 = 64 over 100 + 100 - 64.
    a, b = np.array([[0, 0, 9, 9]]), np.array([[18, 18, 27, 27]])
    assert box_iou(a, b, clamp=False).item() == pytest.approx(64 / 136)
    # Pixels of one: 1 / (1 + 1 - 1), as if they were the same.
    a, b = np.array([[3, 3, 3, 3]]), np.array([[5, 5, 5, 5]])
    assert box_iou(a, b, clamp=False).item() == 1
    # 3 x 3 and 2 x 9 pixels, 3 apart along both: 9 / (9 + 18 - 9).
    a, b = np.array([[0, 0, 2, 2]]), np.array([[6, 6, 7, 14]])
    assert box_iou(a, b, clamp=False).item() == 0.5
    for one, other in ((a, b), (b, a)):
        assert box_iou(one, other).item() == 0
    # Apart along one direction alone it is below zero.
    assert box_iou(np.array([[0, 0, 9, 9]]), np.array([[12, 0, 21, 9]]), clamp=False).item() < 0
