"""Which images and boxes the pictures of an evaluation show."""

import numpy as np
import pandas as pd
import pytest
import torch

from infocam.figures import gallery
from infocam.figures.gallery import save_galleries, save_overlays
from infocam.scoring.metrics import Curves, ScoredMaps
from infocam.scoring.protocols import PROTOCOLS
from mi_common.image_sets import ImageSet

THRESHOLDS = np.arange(100) / 100
VALIDATION = {"cam": 0.5, "infocam": 0.25}
# Overlaps at the chosen thresholds; everywhere else they say the opposite.
OVERLAPS = {"cam": [0.9, 0.2, 0.6, 0.5, 0.1], "infocam": [0.8, 0.75, 0.6, 0.0, 0.3]}


def curves_of(method: str) -> Curves:
    own = np.array(OVERLAPS[method])
    largest = np.repeat(1 - own[:, None], 100, axis=1)
    largest[:, int(100 * VALIDATION[method])] = own
    return Curves(THRESHOLDS, largest, largest, own, own)


@pytest.fixture
def shown(monkeypatch) -> dict:
    """The overlays by the name of the file, in place of pictures."""
    saved = {}
    monkeypatch.setattr(gallery, "save_gallery", lambda path, rows: saved.update({path.name: rows}))
    return saved


@pytest.fixture
def five() -> tuple[ImageSet, ScoredMaps, dict]:
    """Five grey images of 8 x 8 pixels, number i at level i, and maps of 2 x 2 cells."""
    data = ImageSet(
        "any",
        torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 8, 8),
        torch.tensor([0, 1, 0, 1, 0]),
        ["cat", "dog"],
        [np.array([[0, 0, i, i]]) for i in range(5)],
        np.full((5, 2), 8),
        list("abcde"),
    )
    cam = np.zeros((5, 2, 2), np.float32)
    cam[:, 1, 1] = 1
    maps = {"cam": cam, "infocam": -cam, "random": cam}
    found = ScoredMaps(
        {(m, r): curves_of(m) for m in OVERLAPS for r in (1, 3)},
        maps,
        np.array([0, 1, 0, 0, 1]),
        np.array([0, 0, 0, 1, 1]),
    )
    rows = pd.DataFrame(
        [
            (method, rule, region, 0.01 if rule != "validation" or region != "off" else threshold)
            for method, threshold in VALIDATION.items()
            for rule in ("fixed", "validation", "oracle")
            for region in ("off", "fixed")
        ],
        columns=["method", "threshold_rule", "region_rule", "threshold"],
    )
    return data, found, {"protocol": PROTOCOLS["infocam"], "normalisation": "minmax", "rows": rows}


def numbers(rows) -> list[int]:
    return [int(row.picture[0, 0, 0]) for row in rows]


def test_galleries_are_ordered_by_the_overlap_at_the_validation_threshold(five, shown, tmp_path):
    data, found, options = five
    save_galleries(tmp_path, data, found, 3, **options)
    assert {name: numbers(rows) for name, rows in shown.items()} == {
        "gallery_best.png": [0, 1, 2],
        "gallery_worst.png": [3, 4, 2],
        "gallery_differ.png": [1, 3, 4],  # by 0.55, 0.5 and 0.2
    }


def test_without_infocam_and_cam_the_last_and_the_first_method_are_taken(five, shown, tmp_path):
    data, found, options = five
    maps, curves = {}, {}
    for old, new in (("infocam", "similar"), ("cam", "grad-cam")):
        maps[new], curves[new, 1] = found.maps[old], found.curves[old, 1]
    rows = options["rows"].replace({"infocam": "similar", "cam": "grad-cam"})
    other = ScoredMaps(curves, maps | {"random": maps["similar"]}, found.predictions, found.ranks)
    save_galleries(tmp_path, data, other, 2, **options | {"rows": rows})
    assert numbers(shown["gallery_best.png"]) == [0, 2]  # of grad-cam: 0.9 and 0.6
    assert numbers(shown["gallery_differ.png"]) == [1, 3]


def test_one_method_has_nothing_to_differ_from_and_none_are_drawn_of_0(five, shown, tmp_path):
    data, found, options = five
    found.maps.pop("cam")
    save_galleries(tmp_path, data, found, 2, **options)
    assert sorted(shown) == ["gallery_best.png", "gallery_worst.png"]
    shown.clear()
    save_galleries(tmp_path, data, found, 0, **options)
    assert shown == {}
    save_galleries(tmp_path, data, found, 9, **options)
    assert numbers(shown["gallery_best.png"]) == [0, 1, 2, 4, 3]  # all images


def test_overlays_are_spread_evenly_with_boxes_at_the_validation_thresholds(five, shown, tmp_path):
    data, found, options = five
    save_overlays(tmp_path, data, found, 3, **options)
    assert {name: numbers(rows) for name, rows in shown.items()} == {
        "00000.png": [0],
        "00002.png": [2],
        "00004.png": [4],
    }
    (row,) = shown["00004.png"]
    assert row.title == "cat\n(predicted dog)"
    assert shown["00002.png"][0].title == "cat"
    assert list(row.maps) == ["cam", "infocam"]  # no random one
    assert row.truths.tolist() == [[0, 0, 4, 4]]
    # Bicubic between 0 and 1 is above a half from the fifth pixel on; minus it, above a quarter
    # wherever not both coordinates are far in the corner.
    assert {m: b.tolist() for m, b in row.boxes.items()} == {
        "cam": [4, 4, 7, 7],
        "infocam": [0, 0, 7, 7],
    }


@pytest.mark.parametrize(("count", "files"), [(0, 0), (1, 1), (9, 5)])
def test_no_overlay_is_drawn_twice(five, shown, tmp_path, count, files):
    data, found, options = five
    save_overlays(tmp_path, data, found, count, **options)
    assert len(shown) == files
