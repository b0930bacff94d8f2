"""The simulation of label shift, and the comparison of estimators on real data."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pc_softmax.adapter import Adapter
from scripts import (
    label_shift,
    label_shift_quapy,
    label_shift_simulation,
    page_tables,
    quapy_comparison,
)


@pytest.mark.parametrize("quality", label_shift.QUALITIES)
def test_logits_of_a_simulated_classifier_are_calibrated_or_not_as_it_says(quality):
    rng = np.random.default_rng(0)
    classifier = label_shift.Classifier.draw(10, quality, rng)
    logits, labels = classifier.sample(np.full(10, 300), rng)
    names, uniform = list("abcdefghij"), np.full(10, -np.log(10))
    calibration = Adapter(uniform, uniform, names, (logits, labels)).calibration
    assert (calibration.name == "none") == (quality == "calibrated")
    if quality == "over-confident":
        assert calibration.scale < 0.5


def test_validation_counts_hold_the_training_ratio_above_the_rarest_class():
    assert label_shift.validation_counts(4, "balanced", 3).tolist() == [3, 3, 3, 3]
    counts = label_shift.validation_counts(3, "softmax", 10)
    assert counts.tolist() == [100, 32, 10]


def test_a_grid_has_every_cell_once_and_its_table_counts_losses_without_warning(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(label_shift, "TEST_REPEATS", {})
    words = ["--classes", "2", "--draws", "1", "--per-class", "2", "30", "2", "--tests", "50", "50"]
    label_shift_simulation.main([*words, "--output-dir", str(tmp_path)])
    table = pd.read_csv(tmp_path / "label_shift_simulation.csv")
    assert not table.duplicated(label_shift.CELL).any()
    # Three shifts of balanced training, five of each imbalanced one.
    assert len(table) == 2 * 3 * (3 + 5 + 5) * len(label_shift.METHODS)
    auto = table[(table["validation"] == 2) & (table["method"] == "auto")]
    assert (auto["gain"] == 0).all() and (auto["warned"] == 1).all()
    em = table[(table["validation"] == 30) & (table["method"] == "em")]
    assert em["gain"].mean() > 1 and (em["warned"] == 0).all()
    assert "of 13" in capsys.readouterr().out


def test_a_grid_without_a_cell_is_refused_before_anything_is_written(tmp_path, user_error):
    words = ["--classes", "100", "--per-class", "300", "--output-dir", tmp_path / "out"]
    assert "--per-class 300: more than 20,000 validation images" in user_error(
        label_shift_simulation.main, words
    )
    assert list(tmp_path.iterdir()) == []


def test_cells_below_the_limit_count_only_without_warning():
    cells = {
        "classes": 2,
        "classifier": "biased",
        "validation": 10,
        "method": "auto",
        "total_variation": 1.0,
    }
    rows = [
        cells | {"gain": gain, "gain_ci": 0.1, "warned": warned}
        for gain, warned in ((-0.29, 0), (-0.35, 0), (-0.5, 0), (-0.5, 1), (2.0, 0))
    ]
    rows += [row | {"method": "em", "total_variation": k} for k, row in enumerate(rows)]
    (line,) = label_shift.shown(pd.DataFrame(rows)).to_dict("records")
    assert line["em: total variation"] == "2.00" and line["auto: gain"] == "+0.07"
    assert line["below -0.3 without warning"] == "2 of 5" and line["significantly"] == 1
    assert line["least"] == "-0.50" and line["warned"] == "20 %"


def test_no_mean_is_shown_of_a_method_that_fails_in_some_setting():
    cell = {"classes": 2, "classifier": "biased", "validation": 10, "gain": 1.0}
    cell |= {"gain_ci": 0.1, "warned": 0}
    errors = {"em": [1, 2], "em, not calibrated": [3, 4], "bbse": [5, None], "pacc": [6, 7]}
    errors["auto"] = errors["em"]
    rows = [
        cell | {"method": method, "total_variation": value, "gain": value}
        for method, values in errors.items()
        for value in values
    ]
    (line,) = label_shift.shown(pd.DataFrame(rows)).to_dict("records")
    assert line["bbse: total variation"] == "" and line["em: total variation"] == "1.50"
    (line,) = page_tables.simulated_shifts(pd.DataFrame(rows)).to_dict("records")
    assert (line["bbse"], line["gain of bbse"]) == ("", "")
    assert (line["pacc"], line["gain of pacc"]) == ("6.50", "+6.50")


def test_comparison_without_quapy_has_our_rows_of_every_shift(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(quapy_comparison, "tabular", quapy_comparison.digits)
    label_shift_quapy.main(["--resamples", "1", "--output-dir", str(tmp_path)])
    table = pd.read_csv(tmp_path / "label_shift_quapy.csv")
    assert len(table) == 2 * 12 * len(label_shift.METHODS)
    assert set(table["ratio"][table["shift"] == "backward"]) == {10, 50, 100}
    assert (table["worst_total_variation"] >= table["total_variation"] - 1e-3).all()
    assert "Without rows of QuaPy" in capsys.readouterr().out


def test_an_estimate_that_is_not_finite_has_no_accuracy():
    def fails(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(2, np.nan), np.zeros(len(logits), int)

    scores = label_shift.score({"fails": fails}, np.zeros((4, 2)), np.array([0, 0, 0, 1]))
    assert np.isnan(scores["fails"]).all()


def test_means_over_draws_are_empty_where_one_draw_has_no_estimate():
    cell = dict.fromkeys(label_shift.CELL, 1) | {"total_variation": 1.0, "warned": False}
    rows = [cell | {"draw": draw, "gain": gain} for draw, gain in ((0, 1.0), (0, 3.0), (1, 5.0))]
    assert label_shift.summary(pd.DataFrame(rows))["gain"].item() == 3.5
    rows[0]["gain"] = np.nan
    (line,) = label_shift.summary(pd.DataFrame(rows)).to_dict("records")
    assert np.isnan(line["gain"]) and line["draws"] == 2 and line["warned"] == 0


def test_means_over_resamples_leave_out_and_count_those_without_an_estimate():
    setting = {"data": "a", "shift": "uniform", "ratio": 1, "n": 9, "method": "em"}
    rows = pd.DataFrame(
        setting | {"resample": k, "total_variation": value, "gain": -value}
        for k, value in enumerate((1.0, np.nan, 3.0))
    )
    (line,) = quapy_comparison.summary(rows).to_dict("records")
    assert (line["total_variation"], line["gain"], line["failed"]) == (2, -2, 1)
    assert line["gain_ci"] == pytest.approx(12.706, abs=1e-3)
    (line,) = quapy_comparison.shown(rows).to_dict("records")
    assert line["failed"] == 1 and line["total variation"] == "2.00 ± 12.71"


@pytest.mark.parametrize(
    ("dataset", "validation", "test"),
    [("folder", ([], []), "official"), ("mnist", None, "official"), ("mnist", ([], []), "test")],
)
def test_a_run_of_other_data_or_without_validation_is_refused(
    tmp_path, user_error, monkeypatch, dataset, validation, test
):
    saved = SimpleNamespace(validation=validation, tests={test: ([], [])})
    config = {"flags": {"dataset": dataset}}
    monkeypatch.setattr(quapy_comparison.Predictions, "load", lambda path: saved)
    monkeypatch.setattr(quapy_comparison, "read_config", lambda folder: config)
    words = ["--run", "runs/other", "--output-dir", tmp_path / "out"]
    message = user_error(label_shift_quapy.main, words)
    assert "runs/other: not a run on MNIST with --val-fraction" in message
    assert not (tmp_path / "out").exists()


def test_the_table_has_means_over_data_sets_of_methods_that_are_in_all():
    setting = {"shift": "uniform", "ratio": 1, "n": 9}
    rows = [
        setting | {"data": data, "method": "em", "resample": k, "total_variation": v, "gain": -v}
        for data, values in (("a", (1.0, 3.0)), ("b", (5.0, 11.0)))
        for k, v in enumerate(values)
    ]
    rows.append(rows[0] | {"method": "KDEy"})
    table = quapy_comparison.shown(pd.DataFrame(rows)).set_index(["data", "method"])
    assert set(table.index) == {("a", "em"), ("a", "KDEy"), ("b", "em"), ("mean", "em")}
    # Student's t with one degree of freedom: 12.706 times the standard error, 2.
    assert table.loc[("mean", "em"), "total variation"] == "5.00 ± 25.41"
    assert table.loc[("mean", "em"), "worst resample"] == "7.00"
    assert table.loc[("mean", "em"), "least gain of a shift"] == "-8.00"
