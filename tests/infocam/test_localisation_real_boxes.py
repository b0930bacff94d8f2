"""Baselines and perfect boxes on the real annotations of CUB-200-2011 and Tiny-ImageNet."""

import zipfile

import numpy as np
import pytest
from curve_checks import LEGACY, OURS, WSOL

from infocam.scoring.metrics import Evaluator, box_iou, centre_curves
from mi_common.image_files import cub, tiny_imagenet
from mi_common.image_sets import ImageSet


@pytest.fixture(scope="module")
def real_cub(shared_data, tmp_path_factory) -> ImageSet:
    folder = tmp_path_factory.mktemp("cub")
    with zipfile.ZipFile(shared_data / "cub-200-2011-annotations.zip") as archive:
        archive.extractall(folder)
    return cub(folder, "test")


@pytest.fixture(scope="module")
def validation_boxes(shared_data, tmp_path_factory) -> list[np.ndarray]:
    """True boxes of the first 5,000 validation images of Tiny-ImageNet."""
    folder = tmp_path_factory.mktemp("tiny")
    with zipfile.ZipFile(shared_data / "tiny-imagenet-200.zip") as archive:
        for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
            archive.extract(f"tiny-imagenet-200/{name}", folder)
    return tiny_imagenet(folder, "test").boxes


def test_the_best_centre_box_on_cub_is_the_published_one(real_cub):
    sides = np.arange(80, 200) / 224
    curves = centre_curves(sides, real_cub.boxes, real_cub.sizes, WSOL)
    hits = (curves.largest >= 0.5).mean(axis=0)
    assert len(curves.largest) == 5794
    assert 100 * hits.max() == pytest.approx(59.6, abs=0.1)
    assert (round(100 * hits.max(), 2), 224 * sides[hits.argmax()]) == (59.67, 144)


def test_baselines_on_tiny_imagenet(validation_boxes):
    sides, sizes = (1 + np.arange(100)) / 100, np.full((3000, 2), 64)
    hits = centre_curves(sides, validation_boxes[:3000], sizes, OURS).largest >= 0.5
    assert hits[:, -1].sum() == 1595  # 53.2 %
    assert (hits.sum(axis=0).max(), sides[hits.sum(axis=0).argmax()]) == (1753, 0.81)  # 58.4 %


def indicator(box: np.ndarray, side: int) -> np.ndarray:
    values = np.zeros((side, side), np.float32)
    x0, y0, x1, y1 = np.rint(box).astype(int)
    values[y0 : y1 + 1, x0 : x1 + 1] = 1
    return values


def test_a_map_of_the_true_box_scores_100_at_every_threshold(validation_boxes):
    assert len(validation_boxes) == 5000
    evaluator = Evaluator(OURS)
    for start in range(0, 5000, 500):
        boxes = validation_boxes[start : start + 500]
        maps = [indicator(own[0], 64) for own in boxes]
        evaluator.accumulate(maps, boxes, np.full((500, 2), 64))
    curves = evaluator.compute()
    whole = [own.tolist() == [[0, 0, 63, 63]] for own in validation_boxes]
    # A box of all the image makes a constant map, which says nothing.
    assert (curves.largest[np.logical_not(whole)] == 1).all()
    assert (curves.any_contour[np.logical_not(whole)] == 1).all()
    assert 100 < sum(whole) < 1000


def test_a_perfect_box_scores_100_by_the_benchmarks_reading_and_68_by_the_originals(
    validation_boxes,
):
    size, perfect, raw, legacy = np.array([64, 64]), [], [], []
    for own in validation_boxes:
        true = WSOL.truths(own, size)
        perfect.append(box_iou(true, WSOL.truths(own, size)).item())
        corners_as_sides = np.concatenate([own[:, :2], own[:, :2] + own[:, 2:]], axis=1)
        raw.append(box_iou(own, corners_as_sides).item())
        misread = LEGACY.truths(own, size, misread=True)
        legacy.append(box_iou(LEGACY.truths(own, size), misread, clamp=False).item())
    shares = [100 * np.mean(np.array(ious) >= 0.5) for ious in (perfect, raw, legacy)]
    assert shares == [100, pytest.approx(68.86), pytest.approx(68.02)]
    assert all(abs(share - 68.5) < 0.5 for share in shares[1:])
