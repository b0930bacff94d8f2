"""Localisation metrics against a slow evaluator of the WSOL benchmark, and of the original."""

import cv2
import matplotlib
import numpy as np
import pytest
from curve_checks import LEGACY, OURS, WSOL, evaluated, max_box_acc, max_box_acc_v2, same

from infocam.scoring import metrics
from infocam.scoring.metrics import Evaluator
from mi_common.workers import worker_pool

# A slow evaluator of the benchmark's rules, threshold by threshold and box by box.


def slow_iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    common = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return common / (sum(areas) - common)


def slow_scores(values: np.ndarray) -> np.ndarray:
    scores = cv2.resize(values.astype(np.float32), (224, 224), interpolation=cv2.INTER_CUBIC)
    if not np.isfinite(scores).all() or scores.min() == scores.max():
        return np.zeros((224, 224), np.float32)
    scores -= scores.min()
    return scores / scores.max()


def slow_benchmark(maps, boxes, sizes, masks) -> dict[str, float]:
    thresholds = np.arange(0, 1, 0.001)
    largest_hits = np.zeros(1000)
    any_hits = {0.3: np.zeros(1000), 0.5: np.zeros(1000), 0.7: np.zeros(1000)}
    edges = np.concatenate([thresholds, [1.0, 2.0]])
    true_counts, false_counts = np.zeros(1001), np.zeros(1001)
    for values, own, (w, h), mask in zip(maps, boxes, sizes.tolist(), masks, strict=True):
        truths = [[int(c * 224 / s) for c, s in zip(b, (w, h, w, h), strict=True)] for b in own]
        scores = slow_scores(values)
        levels = (scores * 255).astype(np.uint8)
        for i, threshold in enumerate(thresholds):
            _, binary = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            best = []
            for contour in sorted(contours, key=cv2.contourArea, reverse=True):
                x, y, cw, ch = cv2.boundingRect(contour)
                box = x, y, min(x + cw, 223), min(y + ch, 223)
                best.append(max(slow_iou(box, truth) for truth in truths))
            best = best or [max(slow_iou((0, 0, 0, 0), truth) for truth in truths)]
            largest_hits[i] += best[0] >= 0.5
            for iou, hits in any_hits.items():
                hits[i] += max(best) >= iou
        mask = cv2.resize(mask, (224, 224), interpolation=cv2.INTER_NEAREST)
        true_counts += np.histogram(scores[mask == 1], edges)[0]
        false_counts += np.histogram(scores[mask == 0], edges)[0]
    true, false = true_counts[::-1].cumsum(), false_counts[::-1].cumsum()
    precision, recall = true / np.maximum(true + false, 1), true / true[-1]
    return {
        "hits": largest_hits / len(maps),
        "v2": np.mean([hits.max() for hits in any_hits.values()]) / len(maps),
        "pxap": (precision[1:] * np.diff(recall)).sum() + precision[0] * recall[0],
        "peak_iou": (true / (true[-1] + false)).max(),
    }


@pytest.fixture(scope="module")
def random_images():
    """Seven images of several sizes: smooth maps near their true boxes, one constant, one NaN."""
    rng = np.random.default_rng(3)
    maps, boxes, sizes, masks = [], [], [], []
    for i in range(7):
        width, height = rng.integers(30, 300, 2)
        x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
        box = [x, y, rng.integers(x + 5, width), rng.integers(y + 5, height)]
        mask = (rng.random((height, width)) < 0.1).astype(np.uint8) * 255
        mask[box[1] : box[3], box[0] : box[2]] |= 1
        mask[mask == 254] = 255
        mask[:3] = 255
        values = rng.random((rng.integers(5, 15), rng.integers(5, 15))) * 0.6
        rows, columns = ([int(v * n / s) for v in ends] for ends, n, s in (
            ((box[1], box[3]), values.shape[0], height),
            ((box[0], box[2]), values.shape[1], width),
        ))  # fmt: skip
        values[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] += 0.5
        other = [0, 0, width // 3, height // 4]
        maps.append(values)
        boxes.append(np.array([box, other] if i % 2 else [box]))
        sizes.append((width, height))
        masks.append(mask)
    maps[3] = np.ones((7, 7))
    maps[4][2, 2] = np.nan
    return maps, boxes, np.array(sizes), masks


def test_the_benchmarks_numbers_equal_a_slow_evaluator(random_images):
    slow = slow_benchmark(*random_images)
    curves = evaluated(*random_images, rules=WSOL)
    hits = (curves.largest >= 0.5).mean(axis=0)
    cut_of = [int(t * 255) for t in np.arange(0, 1, 0.001)]
    assert hits[cut_of].tolist() == slow["hits"].tolist()
    assert 0.2 < max_box_acc(curves) < 1
    assert max_box_acc(curves) == slow["hits"].max()
    assert max_box_acc_v2(curves) == pytest.approx(slow["v2"], abs=1e-12)
    assert max_box_acc_v2(curves) != max_box_acc(curves)
    assert curves.pxap == pytest.approx(slow["pxap"], abs=1e-12)
    assert curves.peak_iou == pytest.approx(slow["peak_iou"], abs=1e-12)


@pytest.mark.parametrize("misread", [False, True])
def test_legacy_overlaps_equal_a_slow_reading_of_its_faults(random_images, misread):
    maps, boxes, sizes, _ = random_images
    boxes = [own[:1] for own in boxes]
    curves = evaluated(maps, boxes, sizes, rules=LEGACY, misread=misread)
    colours = matplotlib.colormaps["cubehelix"]
    for i, (values, size, ((x0, y0, x1, y1),)) in enumerate(zip(maps, sizes, boxes, strict=True)):
        painted = (colours((slow_scores(values) * 255).astype(np.uint8))[..., :3]).astype("f4")
        grey = cv2.cvtColor((painted * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        far = (x0 + x1, y0 + y1) if misread else (x1, y1)
        truth = [v / s * 223 + 1 for v, s in zip((x0, y0, *far), (*size, *size), strict=True)]
        for k in range(20):
            _, mask = cv2.threshold(grey, int(k / 20 * grey.max()), 255, cv2.THRESH_BINARY)
            contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            box = (0, 0, 1, 1)
            if contours:
                x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
                box = (x, y, x + w, y + h)
            sides = [min(box[d + 2], truth[d + 2]) - max(box[d], truth[d]) + 1 for d in (0, 1)]
            areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (box, truth)]
            common = sides[0] * sides[1]
            assert curves.largest[i, k] == pytest.approx(common / (sum(areas) - common), rel=1e-5)


def test_two_calls_and_two_processes_give_what_one_gives(random_images, monkeypatch):
    maps, boxes, sizes, masks = random_images
    whole = evaluated(*random_images)
    twice = Evaluator(OURS)
    for part in (slice(0, 3), slice(3, 7)):
        twice.accumulate(maps[part], boxes[part], sizes[part], masks[part])
    same(twice.compute(), whole)
    monkeypatch.setattr(metrics, "CHUNK", 3)  # three chunks, the last one smaller
    with worker_pool(2) as workers:
        same(evaluated(*random_images, workers=workers), whole)
