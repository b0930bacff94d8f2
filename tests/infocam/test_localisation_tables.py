"""Tables of one run and of several: percent, intervals, means over seeds, paired differences."""

import pandas as pd
import pytest
from scipy import stats

from infocam.scoring.scores import INTERVALS
from infocam.scoring.tables import differences, shown, summary
from mi_common.errors import UserError

LOW_HIGH = {f"{name}_{end}": 0.1 for name in INTERVALS for end in ("low", "high")}


def row(seed: int, method: str, gt_known: float, top1_loc: float, **changed) -> dict:
    line = {"run": f"runs/{seed}", "dataset": "tiny-imagenet", "network": "resnet50"}
    line |= {"loss": "softmax", "seed": seed, "map": "7x7", "protocol": "infocam"}
    line |= {"accuracy": 0.5 + seed / 100, "method": method, "region": 1, "region_rule": "off"}
    line |= {"threshold_rule": "validation", "threshold": 0.2 + seed / 100}
    scores = {"gt_known": gt_known, "top1_loc": top1_loc, "pxap": float("nan")}
    return line | scores | LOW_HIGH | changed


def test_one_run_in_percent_with_the_intervals_of_two_scores():
    ends = {"gt_known_low": 0.45, "gt_known_high": 0.5551, "top1_loc_low": 0.2}
    table = shown(pd.DataFrame([row(0, "cam", 0.5, 0.25, **ends)]))
    line = {"method": "cam", "region": 1, "region_rule": "off", "threshold_rule": "validation"}
    line |= {"threshold": "0.20", "gt_known": "50.0 (45.0 to 55.5)"}
    assert table.to_dict("records") == [line | {"top1_loc": "25.0 (20.0 to 10.0)"}]


def test_scores_of_masks_and_faithfulness_are_shown_where_they_are():
    rows = [row(0, "cam", 0.5, 0.25, pxap=0.61, insertion=0.375), row(0, "centre-box", 0.5, 0.2)]
    table = shown(pd.DataFrame(rows))
    assert table["pxap"].tolist() == ["61.0", ""]
    assert table["insertion"].tolist() == ["37.5", ""]


# Three seeds; the mean of infocam - cam is 4 points, its standard deviation 2.
CAM, INFOCAM, CENTRE = (0.50, 0.60, 0.55), (0.52, 0.64, 0.61), (0.40, 0.40, 0.40)
ROWS = pd.DataFrame(
    row(seed, method, values[seed], values[seed] / 2)
    for seed in range(3)
    for method, values in (("cam", CAM), ("infocam", INFOCAM), ("centre-box", CENTRE))
)


def half_width(deviation: float) -> float:
    return stats.t.ppf(0.975, 2) * deviation / 3**0.5


def test_means_over_seeds_with_students_interval():
    table = summary(ROWS).set_index("method")
    assert table["n"].tolist() == [3, 3, 3]
    assert table.loc["cam", "gt_known"] == f"55.0 ± {half_width(5):.1f}"
    assert table.loc["centre-box", "gt_known"] == "40.0 ± 0.0"
    assert "pxap" not in table


def test_regions_that_were_given_are_not_averaged_and_chosen_ones_may_differ():
    chosen = [row(s, "cam", 0.7, 0.3, region=3 + 2 * s, region_rule="validation") for s in range(3)]
    given = [row(s, "cam", 0.1, 0.1, region=3, region_rule="fixed") for s in range(3)]
    table = summary(pd.concat([ROWS, pd.DataFrame(chosen + given)]))
    own = table[table["method"] == "cam"].set_index("region_rule")
    assert own.index.tolist() == ["off", "validation"]
    assert own.loc["validation", "gt_known"] == "70.0 ± 0.0"


def test_differences_are_paired_by_seed_to_cam_and_to_the_centre_box():
    table = differences(ROWS).set_index("method")
    assert table.index.tolist() == ["infocam - cam", "cam - centre-box", "infocam - centre-box"]
    assert table.loc["infocam - cam", "gt_known"] == f"4.0 ± {half_width(2):.1f}"
    assert table.loc["infocam - cam", "top1_loc"] == f"2.0 ± {half_width(1):.1f}"
    assert table.loc["cam - centre-box", "gt_known"] == f"15.0 ± {half_width(5):.1f}"


def test_without_cam_the_centre_box_is_left_to_compare_with():
    table = differences(ROWS[ROWS["method"] != "cam"])
    assert table["method"].tolist() == ["infocam - centre-box"]


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(UserError, match="give each seed once"):
        summary(pd.concat([ROWS, ROWS]))
