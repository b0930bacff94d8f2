"""Intersection over union by hand, and scores that choose the threshold on held-out images."""

import zipfile
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.image_files import tiny_imagenet
from infocam.boxes import centre_boxes
from infocam.metrics import best_threshold, box_iou, hits, scores

PAIRS = {
    "identical": ((2, 3, 8, 9), (2, 3, 8, 9), 1),
    "identical, one pixel": ((5, 5, 5, 5), (5, 5, 5, 5), 1),
    "one pixel of four": ((5, 5, 5, 5), (5, 5, 6, 6), Fraction(1, 4)),
    "disjoint along x": ((0, 0, 3, 3), (5, 0, 8, 3), 0),
    "disjoint along both": ((0, 0, 1, 1), (8, 8, 9, 9), 0),
    "neighbours share no pixel": ((0, 0, 3, 3), (4, 0, 7, 3), 0),
    "one shared column": ((0, 0, 3, 3), (3, 0, 6, 3), Fraction(4, 28)),
    "one shared pixel": ((0, 0, 3, 3), (3, 3, 6, 6), Fraction(1, 31)),
    "inside": ((0, 0, 9, 9), (2, 2, 6, 6), Fraction(25, 100)),
    "half": ((0, 0, 9, 9), (0, 0, 9, 4), Fraction(1, 2)),
    "shifted": ((10, 20, 29, 39), (15, 30, 34, 49), Fraction(15 * 10, 400 + 400 - 150)),
}
box_strategy = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = box
    return {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


@pytest.mark.parametrize(("a", "b", "expected"), PAIRS.values(), ids=PAIRS)
def test_iou_by_hand(a, b, expected):
    assert box_iou(np.array([a]), np.array([b])).tolist() == [[pytest.approx(float(expected))]]


@given(st.lists(box_strategy, min_size=1, max_size=4), st.lists(box_strategy, min_size=1))
def test_iou_counts_pixels_and_is_symmetric(first, second):
    a, b = np.array(first), np.array(second)
    slow = [
        [len(pixels(p) & pixels(q)) / len(pixels(p) | pixels(q)) for q in second] for p in first
    ]
    assert box_iou(a, b).shape == (len(a), len(b))
    np.testing.assert_allclose(box_iou(a, b), slow, rtol=0, atol=1e-12)
    assert np.array_equal(box_iou(a, b), box_iou(b, a).T)


def test_half_is_a_hit_and_any_true_box_counts():
    truth = np.array([[0, 0, 9, 9]])
    assert hits(np.array([[0, 0, 9, 4], [0, 0, 9, 3]]), truth).tolist() == [True, False]
    found = np.array([[0, 0, 3, 3], [20, 20, 29, 29], [50, 50, 60, 60]])
    several = np.array([[40, 0, 49, 9], [0, 0, 3, 3], [21, 21, 29, 29]])
    assert hits(found, several).tolist() == [True, True, False]
    assert hits(found, several[:1]).tolist() == [False] * 3


# Five reported images, four thresholds: the oracle's is the third, the held-out images choose the
# second, and the first image's class is predicted wrongly.
HIT = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]], bool)
HELD_OUT = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
CORRECT = np.array([False, True, True, True, True])


def test_threshold_is_chosen_on_held_out_images_with_the_oracle_beside_it():
    chosen, oracle = scores("cam", HIT, HELD_OUT, CORRECT, np.array([0.1, 0.2, 0.3, 0.4]))
    assert vars(chosen) == {
        "method": "cam",
        "threshold_rule": "held-out",
        "threshold": 0.2,
        "gt_known": 2 / 5,
        "top1_loc": 1 / 5,
        "max_box_acc": 4 / 5,
        "n_images": 5,
    }
    assert vars(oracle) == vars(chosen) | {
        "threshold_rule": "oracle",
        "threshold": 0.3,
        "gt_known": 4 / 5,
        "top1_loc": 3 / 5,
    }


def test_nothing_of_the_reported_images_moves_the_chosen_threshold():
    rng = np.random.default_rng(0)
    for _ in range(20):
        hit = rng.random(HIT.shape) < 0.5
        line = scores("cam", hit, HELD_OUT, rng.random(5) < 0.5, np.arange(4) / 4)[0]
        assert (line.threshold, line.gt_known) == (0.25, hit[:, 1].mean())


def test_a_single_threshold_leaves_nothing_to_choose():
    (line,) = scores("whole-image", HIT[:, 2:3], HELD_OUT[:, :1], CORRECT, np.array([1.0]))
    assert (line.threshold_rule, line.threshold, line.gt_known) == ("none", 1.0, 4 / 5)
    assert (line.top1_loc, line.max_box_acc) == (3 / 5, 4 / 5)


def test_the_lowest_of_equal_thresholds_is_chosen():
    assert best_threshold(np.array([[0, 1, 0, 1], [0, 1, 1, 1]], bool)) == 1
    assert best_threshold(np.zeros((3, 4), bool)) == 0


@pytest.fixture(scope="module")
def validation_boxes(shared_data, tmp_path_factory) -> list[np.ndarray]:
    """True boxes of the first 3,000 validation images of Tiny-ImageNet."""
    folder = tmp_path_factory.mktemp("tiny")
    with zipfile.ZipFile(shared_data / "tiny-imagenet-200.zip") as archive:
        for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
            archive.extract(f"tiny-imagenet-200/{name}", folder)
    return tiny_imagenet(folder, "val").boxes[:3000]


def test_baselines_on_tiny_imagenet(validation_boxes):
    sides = (1 + np.arange(100)) / 100
    hit = np.stack([hits(centre_boxes(64, 64, sides), truth) for truth in validation_boxes])
    correct = np.ones(3000, bool)
    (whole,) = scores("whole-image", hit[:, -1:], hit[:, -1:], correct, sides[-1:])
    assert whole.gt_known == 1595 / 3000
    _, centre = scores("centre-box", hit, hit, correct, sides)
    assert (centre.gt_known, centre.threshold) == (1753 / 3000, 0.81)
    assert centre.top1_loc == centre.gt_known


def test_a_perfect_box_scores_100(validation_boxes):
    hit = np.stack([hits(truth, truth) for truth in validation_boxes])
    (line,) = scores("perfect", hit, hit, np.arange(3000) < 1200, np.ones(1))
    assert (line.gt_known, line.top1_loc, line.max_box_acc) == (1.0, 0.4, 1.0)
