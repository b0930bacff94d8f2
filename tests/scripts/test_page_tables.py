"""The tables of the pages, by hand, of small made-up rows."""

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from scripts import page_tables, page_tables_boxes, page_values_boxes
from tests.scripts.made_rows import LOCALISATION, box_rows, table


def lines(made: pd.DataFrame) -> list[list[str]]:
    """The cells, as shown."""
    return made.astype(str).to_numpy().tolist()


def test_estimates_of_the_papers_tasks_stand_beside_the_originals():
    rows = table(
        """estimator, seed, estimate, status
        oracle, 0, 1.03, ok
        pc-softmax, 0, 1.01, ok
        pc-softmax, 1, 1.03, ok
        pc-softmax, 2, 9.99, failed"""
    ).assign(task="gaussian-d1-imbalanced", n_train=50_000, truth=1.0314)
    (line,) = page_tables.paper_estimates(rows).to_dict("records")
    assert line["exact"] == "1.0314" and line["oracle"] == "1.0300"
    assert line["pc-softmax"] == "1.0200 ± 0.1271"
    assert "original pc-softmax" in line


def test_errors_of_hard_tasks_without_those_that_are_not_shown():
    names = ["lda", "auto", "shrunk-lda", "oracle", "regularised-qda", "nearest-neighbours"]
    rows = pd.DataFrame({"estimator": names, "estimate": [1.1, 1.2, 1.3, 1.0, 1.4, 1.5]})
    shared = {"task": "t", "n_train": 100, "truth": 1.0, "status": "ok", "seconds": 1.0}
    made = page_tables.hard_errors(rows.assign(**shared))
    assert list(made) == ["task", "n_train", "oracle", "auto", "lda"]
    assert lines(made[:1]) == [["t", "100", "0.000", "0.200", "0.100*"]]
    assert made["task"].tolist() == ["t", "mean", "worst gap to the best"]


ACCURACIES = table(
    """loss, rule, seed, balanced_accuracy
    softmax, as trained, 0, 0.90
    softmax, as trained, 1, 0.91
    softmax, as trained, 2, 0.92
    softmax, prior added, 0, 0.50
    softmax, prior added, 1, 0.50
    softmax, prior added, 2, 0.50
    pc-softmax, as trained, 0, 0.95
    pc-softmax, as trained, 1, 0.97
    pc-softmax, as trained, 2, 0.96"""
).assign(dataset="d", accuracy=0.8, worst_class_accuracy=0.1)


def test_scores_of_losses_and_rules_have_a_column_for_each_test_set():
    sets = [
        ACCURACIES.assign(test_set="window"),
        ACCURACIES.assign(test_set="official", accuracy=1),
    ]
    made = page_tables.accuracies(pd.concat(sets))
    columns = ["window: accuracy", "window: balanced accuracy"]
    columns += ["official: accuracy", "official: balanced accuracy"]
    assert list(made) == ["loss", "rule", *columns]
    balanced = "91.00 ± 2.48"
    assert lines(made[:1]) == [
        ["softmax", "as trained", "80.00 ± 0.00", balanced, "100.00 ± 0.00", balanced]
    ]
    worst = page_tables.class_scores(sets[0])["window: worst class accuracy"]
    assert worst.tolist() == ["10.00 ± 0.00"] * 3


def test_tuned_losses_have_differences_to_pc_softmax():
    rows = ACCURACIES.assign(test_set="official", imbalance="paper", tuned="lr head")
    rows = rows.assign(head="cosine", lr=0.03)
    others = [{"dataset": "e"}, {"imbalance": "exp:100"}, {"test_set": "w"}, {"tuned": None}]
    rows = pd.concat([rows, *(rows.assign(**other, balanced_accuracy=0.0) for other in others)])
    made = page_tables.tuned(rows, "d")
    columns = ["loss", "rule", "head", "learning rate"]
    assert list(made) == [*columns, "balanced accuracy", "minus PC-softmax", "Holm's p"]
    assert lines(made) == [
        ["softmax", "as trained", "cosine", "0.03", "91.00 ± 2.48", "-5.00 ± 2.48", "0.013"],
        ["pc-softmax", "as trained", "cosine", "0.03", "96.00 ± 2.48", "", ""],
    ]


def test_shifts_show_means_worst_errors_and_least_gains_over_seeds(monkeypatch):
    monkeypatch.setattr(page_tables, "SHOWN_SHIFTS", (("forward", 10),))
    rows = table(
        """shift, ratio, seed, n, em, em_total_variation
        forward, 10.04, 0, 50, 0.92, 0.01
        forward, 10.04, 0, 52, 0.90, 0.03
        forward, 10.04, 1, 51, 0.94, 0.05
        forward, 50.00, 0, 51, 0.10, 0.50
        uniform, 10.00, 0, 51, 0.10, 0.50"""
    ).assign(argmax=0.9, uniform=0.91, train=0.8, bbse=0.89, pacc=0.9, bbse_total_variation=0.1)
    rows = rows.assign(**{"pacc_total_variation": 0.1, "oracle: known prior": 0.95})
    (line,) = page_tables.shifts(rows).to_dict("records")
    expected = {
        **{"shift": "forward", "ratio": 10, "n": 51, "argmax": "90.00", "em": "92.00"},
        **{"train": "80.00", "true prior": "95.00"},
        **{"em, total variation": "0.0350 (0.0500)", "em, least gain": "+1.00"},
        **{"bbse, least gain": "-1.00"},
    }
    assert expected.items() <= line.items()


def test_estimates_of_the_prior_are_means_over_shifts_in_order_of_their_error():
    rows = table(
        """method, shift, total_variation, gain
        cc, a, 3, 0
        cc, b, 5, 1
        em, a, 1, 2
        em, b, 2, 3
        auto, a, 0, 9
        auto, b, 0, 9"""
    )
    sets = [rows.assign(data=name, gain=rows["gain"] + k) for k, name in enumerate(("mnist", "x"))]
    sets = pd.concat([sets[0], sets[1].assign(data="digits"), sets[1].assign(data="tabular")])
    sets.loc[sets["data"] == "tabular", "total_variation"] += 3
    made = page_tables.prior_estimates(sets)
    assert list(made) == ["method", "MNIST", "noisy digits", "made-up table", "mean", "gain"]
    assert lines(made) == [
        ["em", "1.50", "1.50", "4.50", "2.50", "3.17"],
        ["cc", "4.00", "4.00", "7.00", "5.00", "1.17"],
    ]


def test_the_attack_is_counted_before_and_from_the_first_kill():
    rows = table(
        """kind, tried, lost
        CSV, 1000, 1
        npz, 234, 0
        SIGKILL at a moment, 7, 2
        full disk, 8, 3"""
    )
    assert lines(page_tables.attack(rows)) == [
        ["generated inputs, 2 kinds", "1,234", "1"],
        ["kills, full disks, two at once, 2 kinds", "15", "5"],
    ]
    with pytest.raises(UserError, match="0 rows of the kind 'SIGKILL at a moment'"):
        page_tables.attack(rows.replace("SIGKILL at a moment", "SIGKILL"))


def test_scores_of_maps_are_means_over_seeds_in_percent():
    made = page_tables_boxes.map_scores(LOCALISATION, "adamw")
    assert list(made)[:2] == ["map", "method"] and "region_rule" in made
    cells = made.set_index(["map", "method", "region_rule"])
    assert len(cells) == 7  # no region that is off with each seed, no other protocol or rule
    assert cells["gt_known"]["7x7", "infocam", "off"] == "61.0 ± 12.7"
    assert cells["top1_loc"]["14x14", "infocam", "validation"] == "63.0 ± 12.7"
    by_sgd = page_tables_boxes.map_scores(LOCALISATION, "sgd")
    assert list(by_sgd) == ["method", "gt_known", "top1_loc", "top5_loc"]  # the rest is constant
    assert by_sgd["gt_known"].tolist() == ["65.0 ± 0.0", "65.0 ± 12.7", "55.0 ± 0.0"]


def test_differences_of_maps_are_paired_and_those_that_are_asked_for():
    made = page_tables_boxes.map_differences(LOCALISATION, "adamw", "infocam,cam")
    assert lines(made[["map", "method", "n", "gt_known"]]) == [
        ["7x7", "infocam - cam", "2", "11.0 ± 12.7"],
        ["14x14", "infocam - cam", "2", "18.0 ± 0.0"],
        ["7x7", "infocam - centre-box", "2", "6.0 ± 12.7"],
        ["14x14", "infocam - centre-box", "2", "15.0 ± 0.0"],
        ["7x7", "cam - centre-box", "2", "-5.0 ± 0.0"],
        ["14x14", "cam - centre-box", "2", "-3.0 ± 0.0"],
    ]


def test_the_common_part_and_its_gain():
    row = {"head": "SGD", "factor": 0.5, "map_share": 0.125}
    for name, value in (("cam", 0.5), ("infocam", 0.6), ("gain", 0.1)):
        row |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.02}
    expected = ["SGD", "0.5", "12.5 %", "50.0 (49.0 to 52.0)", "60.0 (59.0 to 62.0)"]
    made = lines(page_tables_boxes.common_part(pd.DataFrame([row])))
    assert made == [[*expected, "+10.0 (+9.0 to +12.0)"]]


def test_padding_in_training_and_of_maps():
    rows = box_rows(
        ("infocam", (0.6,)),
        ("centre-box", (0.5,)),
        ("infocam", (0.9,), {"region_rule": "fixed"}),
        ("infocam", (0.9,), {"threshold_rule": "oracle"}),
    )
    rows = pd.concat([rows.assign(padding="zero"), rows.assign(padding="reflect", gt_known=0.4)])
    made = page_tables_boxes.image_padding(rows.assign(training_padding="zero"))
    assert list(made) == ["padding in training", "of maps", "accuracy", "centre-box", "infocam"]
    assert lines(made) == [
        ["zero", "zero", "75.0", "50.0 (49.0 to 52.0)", "60.0 (59.0 to 62.0)"],
        ["zero", "reflect", "75.0", "40.0 (49.0 to 52.0)", "40.0 (59.0 to 62.0)"],
    ]


def test_a_score_that_is_missing_with_one_seed_is_named():
    rows = ACCURACIES.assign(test_set="official")
    rows.loc[1, "balanced_accuracy"] = np.nan
    with pytest.raises(UserError, match="no balanced_accuracy with seed 1"):
        page_tables.accuracies(rows)


DIGITS = {"dataset": "d", "network": "n", "loss": "l", "map": "16x16", "protocol": "infocam"}
DIGITS |= {"region": 1, "region_rule": "off", "threshold_rule": "validation", "threshold": 0.5}


def digit_rows(seeds: int) -> pd.DataFrame:
    """CAM has 80, 81, ... % and infoCAM 5 points more; intervals over images are 1 point wide."""
    rows = []
    for seed in range(seeds):
        for method, score in (("cam", 0.80), ("infocam", 0.85)):
            row = DIGITS | {"seed": seed, "method": method}
            for name in ("gt_known", "top1_loc"):
                value = score + seed / 100
                row |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.01}
            rows.append(row)
    return pd.DataFrame(rows)


def test_digits_of_several_seeds_have_intervals_over_seeds():
    half = f"± {4.302653 / np.sqrt(3):.1f}"  # of Student's interval of three values one apart
    values = dict(page_values_boxes.digits(digit_rows(3)))
    assert values["digits/gt_known/cam"] == f"81.0 {half}"
    assert values["digits/gt_known/infocam - cam"] == "5.0 ± 0.0"
    assert values["digits of seed 0/gt_known/cam"] == "80.0"
    table = page_tables_boxes.digit_scores(digit_rows(3)).set_index("method")
    assert table.loc["infocam", "gt_known"] == f"86.0 {half}" and (table["n"] == 3).all()


def test_digits_of_one_seed_have_intervals_over_images():
    values = dict(page_values_boxes.digits(digit_rows(1)))
    assert values["digits/gt_known/cam"] == values["digits of seed 0/gt_known/cam"] == "80.0"
    table = page_tables_boxes.digit_scores(digit_rows(1)).set_index("method")
    assert table.loc["infocam", "gt_known"] == "85.0 (84.0 to 86.0)"


def test_differences_of_losses_have_signs_and_adjusted_p_values():
    accuracy = {"softmax": [0.90, 0.91, 0.92], "pc-softmax": [0.95, 0.97, 0.96]}
    rows = pd.DataFrame(
        [
            {"dataset": "d", "test_set": "t", "loss": loss, "rule": "as trained", "seed": seed}
            | dict.fromkeys(("accuracy", "balanced_accuracy", "worst_class_accuracy"), value)
            for loss, values in accuracy.items()
            for seed, value in enumerate(values)
        ]
    )
    (line,) = page_tables.balanced_differences(rows).to_dict("records")
    assert line["loss"] == "softmax" and line["rule"] == "as trained"
    assert line["t: minus pc-softmax"] == "-5.00 ± 2.48"
    assert line["t: Holm's p"] == "0.013"


def test_fine_tuned_rows_are_means_over_seeds_with_paired_gains():
    scores = {"centre-box": 0.5, "cam": 0.55, "infocam": 0.6, "infocam+": 0.6, "layer-cam": 0.6}
    shared = {"threshold_rule": "validation", "region_rule": "off"}
    rows = pd.DataFrame(
        [
            {"adl": adl, "seed": seed, "method": method, "accuracy": 0.7 + seed / 100, **shared}
            | {"gt_known": score + seed * (method == "infocam") / 50, "top1_loc": score - 0.1}
            for adl in (np.nan, "blocks.4.2 blocks.5.3")
            for seed in (0, 1, 2)
            for method, score in scores.items()
        ]
    )
    table = page_tables_boxes.fine_tuned(rows)
    assert list(table["training"]) == ["without ADL", "with ADL"]
    assert list(table["n"]) == [3, 3]
    half = 4.302653 / np.sqrt(3)  # of Student's interval of three values one apart
    assert table["test accuracy"][0] == f"71.0 ± {half:.1f}"
    assert table["cam"][1] == "55.0 ± 0.0, 45.0 ± 0.0"
    assert table["infocam minus cam"][0] == f"+7.0 ± {2 * half:.1f}"
    one = page_tables_boxes.fine_tuned(rows[rows["seed"] == 0])
    assert one["infocam minus cam"][0] == "+5.0"
