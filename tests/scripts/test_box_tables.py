"""Tables of better boxes, by hand: cells, order of the methods, what validation images choose."""

import math

import pandas as pd

from infocam.scoring.tables import with_ends
from scripts import page_values_boxes
from scripts.page_tables_boxes import (
    EVERY_OPTION,
    QUARTERS_OF,
    best_boxes,
    box_options,
    object_quarters,
)


def row(method: str, baseline: str, value: float, validation: float = 0.5, **changed) -> dict:
    line = {"optimizer": "adamw", "map": "7x7", "method": method, "baseline": baseline}
    line |= {"gt_known": value, "gt_known_low": value - 0.01, "gt_known_high": value + 0.01}
    line |= {"validation_gt_known": validation, "threshold_rule": "validation"}
    return line | changed


ROWS = pd.DataFrame(
    [
        row("whole-image", "none", 0.53, math.nan, threshold_rule="none"),
        row("centre-box", "none", 0.58),
        row("infocam", "none", 0.61, math.nan, threshold_rule="fixed"),
        row("infocam", "none", 0.63, 0.64),
        row("infocam", "centre-box", 0.05, 0.64),
        row("infocam, mean box", "none", 0.64, 0.63),
        row("infocam, mean box", "infocam", 0.01, 0.63),
        row("propagated infocam", "none", 0.62, 0.65),
        row("propagated infocam", "infocam", -0.01, 0.65),
        row("mean map of cam", "none", 0.57),
        row("random", "none", 0.5),
        row("lowest:20, mean box", "none", 0.6, 0.6),
        row("infocam", "none", 0.63, 0.64),  # of a second command
        row("infocam", "none", 0.66, 0.66, optimizer="sgd", map="14x14", threshold_rule="oracle"),
        row("infocam", "none", 0.65, 0.66, optimizer="sgd", map="14x14"),
    ]
)


def test_scores_and_gains_stand_in_a_column_for_each_head():
    table = box_options(ROWS).set_index("method")
    assert table.index.tolist() == [
        *("whole-image", "centre-box", "infocam", "propagated infocam"),
        "infocam, mean box",
    ]
    assert table["AdamW, 7x7"].tolist() == [
        *("53.0", "58.0", "63.0", "62.0, -1.0 (-2.0 to +0.0)"),
        "64.0, +1.0 (+0.0 to +2.0)",
    ]
    assert table["SGD, 14x14"].tolist() == ["", "", "65.0", "", ""]


def test_what_is_rounded_to_zero_has_no_minus():
    rows = pd.DataFrame([row("a", "b", 0.0098), row("a", "b", -0.0004)])
    assert with_ends(rows, "gt_known", sign=True).tolist() == [
        *("+1.0 (0.0 to +2.0)", "0.0 (-1.0 to +1.0)")
    ]


def test_sentences_take_thresholds_of_validation_images():
    values = dict(page_values_boxes.box_options(ROWS))
    assert values["options/adamw/7x7/infocam"] == "63.0"
    assert values["options/sgd/14x14/infocam"] == "65.0"
    assert values["options/adamw/7x7/infocam, mean box - infocam_high"] == "2.0"


def test_the_best_is_that_on_validation_images_and_not_on_test_images():
    first, second = best_boxes(ROWS).to_dict("records")
    assert first == {
        **{"head, map": "AdamW, 7x7", "best on validation": "propagated infocam"},
        **{"validation": "65.0", "test": "62.0 (61.0 to 63.0)"},
        **{"minus infocam": "-1.0 (-2.0 to +0.0)", "minus centre-box": ""},
    }
    assert second["best on validation"] == "infocam"


def test_quarters_have_columns_of_their_own_head_and_the_gain_of_the_last():
    rows = []
    for k, (_, optimizer, side, method) in enumerate(QUARTERS_OF):
        for quarter in (1, 2):
            changed = {"optimizer": optimizer, "map": side, "quarter": quarter}
            for name in ("distance", "area"):
                value = (k + quarter) / 10 + (name == "area") / 100
                rows.append(row(method, "none", value, property=name, **changed))
                rows.append(row(method, "centre-box", value / 10, property=name, **changed))
    table = object_quarters(pd.DataFrame(rows))
    assert table[["property", "quarter"]].values.tolist() == [
        *(["distance", 1], ["distance", 2], ["area", 1], ["area", 2]),
    ]
    assert table["centre-box"].tolist() == ["10.0", "20.0", "11.0", "21.0"]
    assert QUARTERS_OF[-1][-1] == EVERY_OPTION
    assert table["last minus centre-box"].iloc[0] == "+5.0 (+4.0 to +6.0)"
