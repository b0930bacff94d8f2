"""The numbers of sentences, by hand, of small made-up rows."""

import numpy as np
import pandas as pd

from scripts import page_values, page_values_boxes
from tests.scripts.made_rows import LOCALISATION, box_rows, table


def test_estimates_of_the_papers_task_and_their_errors(monkeypatch):
    published = {("a-balanced", "pc-softmax"): 0.98, ("b-imbalanced", "pc-softmax"): 1.4}
    published |= {("b-imbalanced", "softmax-log-k"): 1.38, ("c-imbalanced", "softmax-log-k"): 2.09}
    monkeypatch.setattr(page_values, "PUBLISHED", published)
    means = {  # the exact value; softmax, PC-softmax, softmax + log K
        "a-balanced": (1.0, 0.9993, 0.9989, 1.0),
        "b-imbalanced": (1.5, 1.4995, 1.4996, 1.62),
        "c-imbalanced": (2.0, 2.0002, 2.0004, 2.06),
    }
    names = ("oracle", "softmax", "pc-softmax", "softmax-log-k")
    rows = pd.DataFrame(
        {"task": task, "estimator": name, "truth": values[0], "estimate": value + off}
        for task, values in means.items()
        for name, value in zip(names, values, strict=True)
        for off in (-0.001, 0, 0.001)
    )
    expected = {
        "mi/b-imbalanced/pc-softmax": "1.4996 ± 0.0025",
        "mi/b-imbalanced/pc-softmax/original": "1.400",
        "mi/b-imbalanced/exact": "1.5000",
        "mi/largest error": "0.002",  # 0.0011, up
        "mi/softmax and pc-softmax differ": "0.0004",
        "mi/log k error": "0.09",  # 0.12 and 0.06
        "mi/least gap of the original": "0.02",
        "mi/largest gap of the original": "0.10",
        "mi/original log k/lowest error": "-0.12",
        "mi/original log k/highest error": "0.09",
    }
    assert expected.items() <= dict(page_values.paper_task(rows)).items()


def test_errors_ranks_and_gaps_of_estimators():
    estimates = {  # of two tasks whose exact values are 1 and 2; by task and size
        "oracle": (1, 1, 2, 2),
        "auto": (0.89, 1.03, 1.78, 1.98),
        "pc-softmax": (0.80, 0.96, 1.70, 1.90),
        "ross": (0.9492, 0.90, 1.77, 1.96),
    }
    rows = pd.DataFrame(
        {"task": task, "n_train": size, "truth": truth, "estimator": name, "estimate": value}
        for name, values in estimates.items()
        for (task, truth, size), value in zip(
            (("a", 1, 100), ("a", 1, 1000), ("b", 2, 100), ("b", 2, 1000)), values, strict=True
        )
    )
    expected = {
        "s/auto": "0.095",  # 0.11, 0.03, 0.22, 0.02
        "s/auto/relative": "7",  # the median of 11, 3, 11 and 1 %
        "s/100/auto": "0.165",
        "s/1000/auto": "0.025",
        "s/100/auto/mean error": "-0.165",
        "s/1000/auto/mean error": "0.005",
        "s/ross/rank": "2.0",  # 1, 3, 2, 2
        "s/pc-softmax/rank": "2.8",  # 3, 2, 3, 3
        "s/worst gap of auto": "0.059",  # 0.0592 behind ross
        "s/bound of gap of auto": "0.060",
        "s/lines": "4",
        "s/auto is best": "3",
        "s/pc-softmax - auto": "0.065 ± 0.191",  # by task 0.05 and 0.08
        "s/least truth": "1.000",
        "s/largest truth": "2.00",
    }
    assert expected.items() <= dict(page_values.errors(rows.assign(status="ok"), "s")).items()


def test_intervals_above_and_below_the_exact_value_with_its_error():
    rows = table(
        """estimator, lower, upper, status
        auto, 0.50, 0.90, ok
        auto, 0.50, 0.97, ok
        auto, 1.03, 1.20, ok
        auto, 0.90, 1.10, ok
        auto, 2.00, 3.00, failed
        ross, 1.10, 1.30, ok
        ross, 1.06, 1.30, ok
        ross, 0.90, 1.30, ok"""
    ).assign(truth=1, truth_error=0.05)
    assert dict(page_values.interval_counts(rows[:3], rows[3:])) == {
        "below/auto/percent": "25",
        **{"above/auto": "0", "above/auto/rows": "4", "above/auto/percent": "0"},
        **{"above/ross": "2", "above/ross/rows": "3", "above/ross/percent": "67"},
    }


def test_estimates_without_information():
    rows = pd.DataFrame({"upper": [-0.01, 0.02, 0.0], "estimate": [0.0, -0.1, 0.0]})
    expected = {"zero/data sets": "3", "zero/below": "1", "zero/exactly": "2"}
    assert dict(page_values.without_information(rows)) == expected


def test_coverage_gives_shares_alone():
    shares = {name: i / 8 for i, name in enumerate(page_values.SHARES)}
    rows = pd.DataFrame([{"task": "t", "truth": 1.3, "spread": 0.1} | shares])
    values = dict(page_values.coverage(rows))
    assert values["coverage/t/covered_low"] == "12.5"
    assert values["coverage/t/below_truth"] == "100.0"
    assert set(values) == {f"coverage/t/{name}" for name in shares}


ACCURACIES = table(
    """test_set, loss, rule, seed, balanced_accuracy, accuracy, worst_class_accuracy
    official, softmax, as trained, 0, 0.90, 0.80, 0.70
    official, softmax, as trained, 1, 0.92, 0.80, 0.60
    official, softmax, as trained, 2, 0.91, 0.80, 0.50
    official, softmax, as trained, 3, 0.99, 0.80, 0.50
    official, softmax, prior subtracted, 0, 0.94, 0.81, 0.7
    official, softmax, prior subtracted, 1, 0.95, 0.81, 0.7
    official, softmax, prior subtracted, 2, 0.96, 0.81, 0.7
    official, softmax, prior subtracted, 3, 0.95, 0.81, 0.7"""
)


def test_accuracies_by_test_set_loss_and_rule_and_those_of_three_seeds():
    untuned = ACCURACIES[:4].assign(head="cosine", tuned=np.nan, balanced_accuracy=0.93)
    tuned = ACCURACIES[:4].assign(head="cosine", tuned="lr head", balanced_accuracy=0)
    fair = pd.concat([untuned, tuned])
    expected = {
        "mnist 3 seeds/official/softmax": "91.00 ± 2.48",
        "mnist 3 seeds/official accuracy/softmax": "80.00 ± 0.00",
        "mnist 3 seeds/official worst/softmax, prior subtracted - softmax": "10.00 ± 24.84",
        "mnist 3 seeds/official/softmax, prior subtracted - softmax": "4.00 ± 2.48",  # 4, 3, 5
        "mnist/official/softmax, cosine": "93.00 ± 0.00",
        # of 90, 92, 91, 99: 4.0825 and 3.1824 by Student's t with three degrees of freedom
        "mnist/official/softmax": f"93.00 ± {3.182446 * 4.082483 / 2:.2f}",
        "mnist/official/softmax - softmax, cosine": "0.00 ± 6.50",
    }
    assert expected.items() <= dict(page_values.mnist_accuracies(ACCURACIES, fair)).items()
    tuned = fair.assign(dataset="d", imbalance="exp:100")
    values = dict(page_values.tuned_accuracies(tuned))
    assert values["tuned d/exp:100/official/softmax"] == "0.00 ± 0.00"


def test_accuracies_of_digits_by_their_training_images():
    rows = table(
        """test_set, loss, rule, seed, class, train_count, accuracy
        official, softmax, as trained, 0, 0, 300, 0.8
        official, softmax, as trained, 0, 2, 300, 0.9
        official, softmax, as trained, 1, 0, 300, 0.9
        official, softmax, as trained, 1, 2, 300, 0.9
        official, softmax, as trained, 0, 1, 3000, 1.0
        official, softmax, as trained, 1, 1, 3000, 1.0
        window, softmax, as trained, 0, 0, 300, 0.0
        official, softmax, prior added, 0, 0, 300, 0.5
        official, softmax, prior added, 1, 0, 300, 0.5
        official, softmax, prior added, 0, 1, 3000, 0.5
        official, softmax, prior added, 1, 1, 3000, 0.5"""
    )
    values = dict(page_values.by_training_images(rows))
    assert values["digits of 300/softmax"] == "87.50 ± 31.77"
    assert values["digits of 3000/softmax - softmax, prior added"] == "50.00 ± 0.00"


def test_gains_of_shifts_with_their_interval_over_seeds_and_the_least():
    rows = table(
        """seed, shift, ratio, em
        0, forward, 10, 0.91
        1, forward, 10, 0.93
        0, dirichlet, 3.1, 0.88
        0, dirichlet, 4.2, 0.90
        1, dirichlet, 3.3, 0.91"""
    ).assign(argmax=0.9, uniform=0.9, bbse=0.905, pacc=0.9)
    values = dict(page_values.shifts(rows))  # of EM by seed -1 and 1, 1 and 3 points
    assert values["shift/em"] == "1.00" and values["shift/em/least"] == "-1.00"
    assert (values["shift/em/low"], values["shift/em/high"]) == ("-11.71", "13.71")
    assert values["shift/bbse"] == values["shift/bbse/low"] == values["shift/bbse/least"] == "0.50"
    assert values["shift/shifts"] == "2"


def test_estimates_of_the_prior_against_quapys():
    rows = table(
        """shift, method, total_variation, gain
        f, em, 1.0, 1.0
        f, "QuaPy EMQ, vs", 0.8, 0
        f, QuaPy PACC, 2.0, 0
        b, em, 2.0, 2.0
        b, "QuaPy EMQ, vs", 2.4, 0
        b, QuaPy PACC, 0.6, 0"""
    ).assign(data="mnist", ratio=10)
    values = dict(page_values.prior_estimates(rows))
    assert values["quapy/mnist/lead of the best peer"] == "0.20"  # 1.5 against 1.6 and 1.3
    assert values["quapy/shifts"] == "2" and values["quapy/em is ahead of vs"] == "1"
    assert values["quapy/mnist/em/gain"] == "1.5"


def test_settings_that_lose_more_than_the_limit():
    rows = table(
        """classes, validation, test, method, gain, gain_ci
        2, 10, 20, auto, -0.3100, 0.2
        2, 10, 20, auto, -0.6201, 0.1
        2, 10, 20, auto, -0.2900, 0.0
        2,  9, 20, auto, -5.0000, 0.0
        2, 10, 19, auto, -5.0000, 0.0
        2, 10, 20, em,   -5.0000, 0.0"""
    )
    assert dict(page_values.simulated_shifts(rows)) == {
        **{"simulation/settings": "3", "simulation/settings that lose": "2"},
        **{"simulation/largest loss": "0.63", "simulation/significant": "1"},
    }


def test_heads_and_rates_that_score_best_on_validation():
    rows = table(
        """loss, head, lr, seed, balanced_accuracy, status
        softmax, linear, 0.01, 0, 0.92, ok
        softmax, linear, 0.10, 0, 0.90, ok
        softmax, linear, 0.10, 1, 0.96, ok
        softmax, cosine, 0.01, 0, 0.94, ok
        ldam, linear, 0.01, 0, 0.95, ok
        ldam, linear, 0.10, 0, 0.90, ok
        ldam, cosine, 0.10, 0, 0.94, ok
        ldam, cosine, 0.01, 0, 0.99, failed
        vs, linear, 0.01, 0, 0.8, ok
        vs, linear, 0.10, 0, 0.9, ok
        vs, cosine, 0.10, 0, 0.7, ok"""
    ).assign(dataset="d", imbalance="paper")
    assert dict(page_values.better_recipes(rows)) == {
        **{"tuning/d/paper/losses": "3", "tuning/d/paper/cosine is better": "1"},
        **{"tuning/d/paper/linear best at 0.01": "1", "tuning/d/paper/linear best at 0.1": "2"},
    }


def test_localisation_by_optimiser_map_and_region():
    expected = {
        "boxes/adamw/7x7/accuracy": "75.5",
        "boxes/adamw/bootstrap": "1.5",
        "boxes/adamw/7x7/gt_known/infocam": "61.0 ± 12.7",
        "boxes/adamw/7x7/top1_loc/infocam": "51.0 ± 12.7",
        "boxes/adamw/7x7/gt_known/infocam - cam": "11.0 ± 12.7",
        "boxes/adamw/14x14/gt_known/infocam, region - infocam": "3.0 ± 12.7",
        "boxes/adamw/14x14 - 7x7/gt_known/infocam": "9.0 ± 12.7",
        "boxes/sgd/7x7/gt_known/infocam": "65.0 ± 0.0",
    }
    rows = LOCALISATION.copy()
    rows.loc[rows["method"] != "infocam", "gt_known_high"] += 0.1
    assert expected.items() <= dict(page_values_boxes.boxes(rows)).items()
    values = dict(page_values_boxes.plain_cam_by_sgd(rows))
    assert values["boxes/both/gt_known/cam by sgd - infocam by adamw"] == "4.0 ± 0.0"
    assert values["boxes/both/top1_loc/infocam by adamw"] == "51.0 ± 12.7"


def test_heads_of_true_boxes_beside_infocam():
    rows = pd.DataFrame({"gt_known": [0.50, 0.52], "infocam": 0.6})
    rows = rows.assign(optimizer="sgd", inputs="map")
    assert dict(page_values_boxes.box_heads(rows)) == {
        **{"box head/sgd/map": "51.0 ± 12.7", "box head/sgd/infocam": "60.0"},
    }


def test_edge_bands_and_the_fields_protocol():
    row = {"method": "x", "gt_known": 0.5, "gain": -0.01, "gain_low": -0.02, "gain_high": 0.0}
    assert dict(page_values_boxes.edge_bands(pd.DataFrame([row]))) == {
        **{"bands/x": "50.0", "bands/x/gain": "-1.0"},
        **{"bands/x/gain_low": "-2.0", "bands/x/gain_high": "0.0"},
    }
    rows = LOCALISATION.assign(max_box_acc=0.7, max_box_acc_v2=0.6)
    rows = rows[rows["protocol"].eq("infocam") | rows["seed"].eq(0)]
    assert dict(page_values_boxes.field_protocol(rows)) == {
        **{"wsol/infocam/gt_known": "98.0", "wsol/infocam/max_box_acc": "70.0"},
        **{"wsol/infocam/max_box_acc_v2": "60.0"},
    }


def test_fine_tuned_networks_without_adl():
    rows = box_rows(
        ("cam", (0.50, 0.50)),
        ("infocam", (0.60, 0.62)),
        ("infocam", (0.9, 0.9), {"region_rule": "fixed", "region": 3}),
        ("infocam", (0.9, 0.9), {"threshold_rule": "oracle"}),
    )
    with_adl = rows.assign(adl="blocks.4.2", gt_known=0, accuracy=0)
    values = dict(page_values_boxes.fine_tuned(pd.concat([rows.assign(adl=np.nan), with_adl])))
    assert values["fine-tuned/gt_known/infocam - cam"] == "11.0 ± 12.7"
    assert values["fine-tuned/top1_loc/cam"] == "40.0 ± 0.0"


def test_means_and_differences_are_those_of_the_columns():
    by_seed = pd.DataFrame({"a": [0.5, 0.6, 0.7], "b": [0.5, 0.5, 0.2]})
    values = dict(page_values.over_seeds("x", by_seed, 1))
    half_width = 4.302652729749 * np.std([0, 10, 50], ddof=1) / np.sqrt(3)
    assert values == {
        "x/a": "60.0 ± 24.8",
        "x/b": "40.0 ± 43.0",
        "x/a - b": f"20.0 ± {half_width:.1f}",
        "x/b - a": f"-20.0 ± {half_width:.1f}",
    }
    of_one = dict(page_values.over_seeds("x", by_seed[:1], 1))
    assert of_one == {"x/a": "50.0", "x/b": "50.0", "x/a - b": "0.0", "x/b - a": "0.0"}
