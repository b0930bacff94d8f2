"""Scores by where the object is and how large it is, in quarters of the images.

Evaluation data are photographs of mostly centred, large objects, where a centred box does well. The
quarters show where a method is better than that box.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from infocam.scoring.scores import HITS, resampled

BASELINE = "centre-box"


def largest_boxes(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 4) floats: the largest of each image's (M, 4) boxes of inclusive pixels."""
    areas = [(of_image[:, 2:] - of_image[:, :2] + 1).prod(axis=1) for of_image in boxes]
    return np.stack([b[a.argmax()] for b, a in zip(boxes, areas, strict=True)]).astype(float)


def object_properties(boxes: Sequence[np.ndarray], sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Of the largest true box of each of N images: "distance" and "area", (N,) each.

    The distance of its centre from that of the image has components in widths and heights of the
    image; the area is a fraction of the image's.

    `boxes` are (M, 4) corners in inclusive pixels, `sizes` (N, 2) widths and heights.
    """
    corners = largest_boxes(boxes)
    start, end = corners[:, :2] / sizes, (corners[:, 2:] + 1) / sizes
    offset = (start + end) / 2 - 0.5
    return {"distance": np.hypot(*offset.T), "area": (end - start).prod(axis=1)}


def quarters(values: np.ndarray) -> np.ndarray:
    """The quarter of each of (N,) values, 0 to 3; equal values are in the same one."""
    return np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values, side="right")


def object_rows(rows: pd.DataFrame, boxes: Sequence[np.ndarray], sizes: np.ndarray) -> pd.DataFrame:
    """GT-known localisation of each method by quarter of the distance and of the area.

    Args:
        rows: of `scores.score_rows`, with the columns method, region_rule, threshold_rule and
            `HITS`; those with thresholds from validation images count, without a given region.
        boxes, sizes: see `object_properties`.

    Returns:
        A row each with the columns property, quarter (1 to 4), lowest, highest and mean (of the
        property), n, method, region_rule, threshold_rule; gt_known and gain, the difference to the
        centre box, fractions of one, with bootstrap intervals over images (_low, _high).
    """
    rows = rows[(rows["threshold_rule"] == "validation") & (rows["region_rule"] != "fixed")]
    centre = rows[rows["method"] == BASELINE][HITS].iloc[0].astype(float)
    lines = []
    for name, values in object_properties(boxes, sizes).items():
        of_image = quarters(values)
        for quarter in np.unique(of_image):
            inside = of_image == quarter
            n, known = int(inside.sum()), values[inside]
            described = {"property": name, "quarter": int(quarter) + 1, "lowest": known.min()}
            described |= {"highest": known.max(), "mean": known.mean(), "n": n}
            for row in rows.to_dict("records"):
                line = {key: row[key] for key in ("method", "region_rule", "threshold_rule")}
                hits = row[HITS][inside].astype(float)
                for score, change in (("gt_known", hits), ("gain", hits - centre[inside])):
                    low, high = np.percentile(resampled(n) @ change / n, (2.5, 97.5))
                    line |= {score: change.mean(), f"{score}_low": low, f"{score}_high": high}
                lines.append(described | line)
    return pd.DataFrame(lines)


def object_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Percent by method, a column for each quarter; means over the runs."""
    rows = rows.assign(column=rows["property"] + " " + rows["quarter"].astype(str))
    methods = ["map", "method", "region_rule"] if "map" in rows else ["method", "region_rule"]
    table = rows.pivot_table("gt_known", methods, "column", sort=False)
    return (100 * table).map("{:.1f}".format).reset_index().rename_axis(columns=None)
