"""Scores by position and size of the object, against images picked one by one."""

import numpy as np
import pandas as pd
import pytest
from slow_evaluation import METHODS

from infocam.scoring.objects import object_properties, object_rows, object_table, quarters

SIZES = np.array([[100, 50], [64, 64], [10, 20]])
BOXES = [
    np.array([[0, 0, 99, 49]]),
    np.array([[0, 0, 3, 3], [32, 0, 63, 31]]),  # the larger one counts
    np.array([[9, 19, 9, 19]]),
]


def test_properties_of_boxes_are_those_by_hand():
    properties = object_properties(BOXES, SIZES)
    np.testing.assert_allclose(properties["area"], [1, 0.25, 1 / 200])
    corner = np.hypot(0.45, 0.475)
    np.testing.assert_allclose(properties["distance"], [0, np.sqrt(0.125), corner])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2, 4], [2, 0, 1, 3]),
        ([5, 5, 5, 5], [3, 3, 3, 3]),
        ([1, 1, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_quarters_keep_equal_values_together(values, expected):
    assert quarters(np.array(values)).tolist() == expected


def rows_of(hits: dict[tuple, np.ndarray]) -> pd.DataFrame:
    columns = ("method", "region_rule", "threshold_rule", "hits")
    return pd.DataFrame([dict(zip(columns, (*key, h), strict=True)) for key, h in hits.items()])


def test_rows_are_those_of_images_picked_one_by_one():
    rng = np.random.default_rng(0)
    sides = rng.permutation(np.arange(1, 41))
    boxes = [np.array([[0, 0, side - 1, side - 1]]) for side in sides]
    sizes = np.full((40, 2), 40)
    infocam, centre = rng.random((2, 40)) < [[0.7], [0.4]]
    rows = object_rows(
        rows_of(
            {
                ("centre-box", "off", "validation"): centre,
                ("infocam", "off", "validation"): infocam,
                ("infocam", "off", "oracle"): ~infocam,
                ("infocam", "fixed", "validation"): ~infocam,
                ("infocam", "validation", "validation"): infocam,
            }
        ),
        boxes,
        sizes,
    )
    assert len(rows) == 2 * 4 * 3
    smallest = [i for i in range(40) if sides[i] <= 10]
    found = rows[(rows["property"] == "area") & (rows["quarter"] == 1)].set_index("region_rule")
    off = found.loc["off"].set_index("method")
    assert off.loc["infocam", "n"] == 10
    assert off.loc["infocam", "gt_known"] == np.mean([infocam[i] for i in smallest])
    gain = np.mean([float(infocam[i]) - float(centre[i]) for i in smallest])
    assert off.loc["infocam", "gain"] == pytest.approx(gain)
    assert off.loc["centre-box", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    edges = [off.loc["infocam", name] for name in ("lowest", "highest")]
    np.testing.assert_allclose(edges, [1 / 1600, 100 / 1600])
    low, high = off.loc["infocam", ["gt_known_low", "gt_known_high"]]
    assert low < off.loc["infocam", "gt_known"] < high
    # a box in the corner is the further from the centre the smaller it is
    furthest = rows[(rows["property"] == "distance") & (rows["quarter"] == 4)]
    assert furthest["gt_known"].tolist() == found["gt_known"].tolist()
    table = object_table(rows)
    assert table.columns.tolist()[2:] == [f"{p} {q}" for p in ("distance", "area") for q in "1234"]
    assert table.set_index(["method", "region_rule"]).loc[("infocam", "off"), "area 1"] == (
        f"{100 * off.loc['infocam', 'gt_known']:.1f}"
    )


def test_the_quarters_of_an_evaluation_add_up_to_its_scores(tiny_evaluation):
    results = pd.read_csv(tiny_evaluation / "results.csv")
    results = results[results["threshold_rule"] == "validation"].set_index("method")["gt_known"]
    rows = pd.read_csv(tiny_evaluation / "by_object.csv")
    assert set(rows["method"]) == set(results.index) == {*METHODS, "centre-box", "random"}
    for (method, _), group in rows.groupby(["method", "property"]):
        assert group["n"].sum() == 12
        assert group["n"] @ group["gt_known"] / 12 == pytest.approx(results[method])
        gain = results[method] - results["centre-box"]
        assert group["n"] @ group["gain"] / 12 == pytest.approx(gain)
    assert "area 1" in (tiny_evaluation / "by_object.md").read_text().splitlines()[0]
