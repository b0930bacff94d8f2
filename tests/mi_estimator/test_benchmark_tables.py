"""The benchmark's tables by hand: failures, the best of a line, the oracle, published values."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from mi_estimator import benchmark_report
from mi_estimator.benchmark_report import error_table, estimate_table, report, rmse_table
from mi_estimator.tasks.suites import PUBLISHED, SUITES

NAN = float("nan")


def result_rows(errors: dict, truth: float = 1.0, seconds: float = 2.0) -> pd.DataFrame:
    """Rows of results.csv from (task, n_train, estimator) -> an error a seed; NaN is a failure."""
    rows = [
        {
            "task": task,
            "estimator": estimator,
            "seed": seed,
            "n_train": n_train,
            "n_test": 100,
            "estimate": truth + error,
            "lower": truth + error - 0.25,
            "truth": truth,
            "truth_error": 0.1,
            "seconds": seconds + seed,
            "status": "failed: a reason" if math.isnan(error) else "ok",
        }
        for (task, n_train, estimator), own in errors.items()
        for seed, error in enumerate(own)
    ]
    return pd.DataFrame(rows)


ERRORS = {
    ("a", 10, "oracle"): (0.1, -0.1),
    ("a", 10, "lda"): (0.3, -0.4),  # sqrt((0.09 + 0.16) / 2) = 0.3536
    ("a", 10, "mine"): (0.5, NAN),
    ("a", 10, "qda"): (NAN, NAN),
    ("b", 20, "oracle"): (0.0, 0.02),  # 0.0141
    ("b", 20, "lda"): (0.6, -0.6),
    ("b", 20, "mine"): (-0.2, 0.2),
    ("b", 20, "qda"): (0.3, 0.1),  # sqrt(0.05) = 0.2236
}


def test_root_mean_squares_by_hand():
    table = rmse_table(result_rows(ERRORS))
    assert list(table.columns) == ["task", "n_train", "oracle", "lda", "mine", "qda"]
    assert table.to_numpy().tolist() == [
        ["a", 10, "0.100", "0.354*", "0.500 (1 failed)", "(2 failed)"],
        ["b", 20, "0.014", "0.600", "0.200*", "0.224"],
        ["mean", "", "0.057", "0.477", "0.350", ""],  # qda has no number on the first
        ["worst gap to the best", "", "", "0.400", "0.146", ""],  # 0.6 - 0.2, 0.5 - 0.3536
        ["seconds a run", "", "2.5", "2.5", "2.5", "2.5"],
    ]


def test_the_best_may_have_failures_and_ties_are_marked_together():
    errors = {("a", 10, "lda"): (0.25, NAN), ("a", 10, "qda"): (-0.25, 0.25), ("a", 10, "x"): (1,)}
    (line, *_) = rmse_table(result_rows(errors)).to_dict("records")
    assert (line["lda"], line["qda"], line["x"]) == ("0.250* (1 failed)", "0.250*", "1.000")


def test_sizes_have_lines_of_their_own_and_what_was_not_run_is_left_empty():
    errors = {("a", 10, "lda"): (0.2,), ("a", 40, "lda"): (0.1,), ("a", 40, "qda"): (0.3,)}
    table = rmse_table(result_rows(errors))
    assert table.to_numpy().tolist()[:4] == [
        ["a", 10, "0.200*", ""],
        ["a", 40, "0.100*", "0.300"],
        ["mean", "", "0.150", ""],
        ["worst gap to the best", "", "0.000", ""],
    ]


def test_the_oracle_alone_has_no_best_beside_it():
    table = rmse_table(result_rows({("a", 10, "oracle"): (0.2,)}))
    assert table["oracle"].tolist() == ["0.200", "0.200", "", "2.0"]


def test_errors_by_hand():
    found = {
        (line["estimator"], line["task"]): line
        for line in error_table(result_rows(ERRORS)).to_dict("records")
    }
    assert len(found) == 8 + 4
    columns = ["n_train", "n", "failed", "bias", "spread", "rmse", "above_truth", "seconds"]
    expected = {
        # 0.7 / sqrt(2) is the spread of two values 0.7 apart; an interval lies above the exact
        # value and its error bound where the error exceeds 0.25 + 0.1.
        ("lda", "a"): [10, 2, 0, "-0.0500", "0.4950", "0.3536", "0.000", "2.5"],
        ("mine", "a"): [10, 1, 1, "+0.5000", "", "0.5000", "1.000", "2.5"],
        ("qda", "a"): [10, 0, 2, "", "", "", "", "2.5"],
        ("qda", "b"): [20, 2, 0, "+0.2000", "0.1414", "0.2236", "0.000", "2.5"],
        ("oracle", "b"): [20, 2, 0, "+0.0100", "0.0141", "0.0141", "0.000", "2.5"],
        ("mine", "all"): ["", 3, 1, "+0.1667", "", "0.3317", "0.333", "2.5"],  # sqrt(0.33 / 3)
        ("qda", "all"): ["", 2, 2, "+0.2000", "", "0.2236", "0.000", "2.5"],
    }
    for key, values in expected.items():
        assert [found[key][column] for column in columns] == values, key


def paper_rows(*estimators: str, task: str = "gaussian-d1-imbalanced") -> pd.DataFrame:
    errors = {(task, 75_000, name): (0.001, 0.003) for name in estimators}
    return result_rows(errors, truth=1.0224)


def test_estimates_of_the_paper_stand_beside_the_original_s():
    rows = pd.concat(
        [
            paper_rows("oracle", "softmax", "pc-softmax", "softmax-log-k"),
            paper_rows("pc-softmax", "softmax-log-k", task="gaussian-d2-balanced"),
        ]
    )
    table = estimate_table(rows, SUITES["paper"])
    first, second = table.to_dict("records")
    # Half of Student's interval of two values 0.002 apart: 12.706 * 0.002 / 2.
    mean = "1.0244 ± 0.0127"
    assert list(first.items()) == [
        ("task", "gaussian-d1-imbalanced"),
        ("n_train", 75_000),
        ("H(Y)", "1.4898"),
        ("exact", "1.0224"),
        ("oracle", mean),
        ("softmax", mean),
        ("pc-softmax", mean),
        ("softmax-log-k", mean),
        ("original pc-softmax", "0.942"),
        ("original softmax-log-k", "1.115"),
    ]
    assert (second["task"], second["oracle"], second["pc-softmax"]) == (
        "gaussian-d2-balanced",
        "",
        mean,
    )
    assert (second["original pc-softmax"], second["original softmax-log-k"]) == ("1.280", "")


def test_there_is_no_column_for_published_values_where_there_are_none():
    table = estimate_table(paper_rows("softmax", "oracle"), SUITES["paper"])
    assert list(table.columns)[4:] == ["softmax", "oracle"]
    task = "concentric-d5"
    rows = paper_rows("pc-softmax", "softmax-log-k", task=task)
    assert list(estimate_table(rows, SUITES["hard"]).columns)[4:] == ["pc-softmax", "softmax-log-k"]


def test_failed_rows_are_left_out_of_the_estimates():
    rows = result_rows(
        {("concentric-d5", 10, "lda"): (0.5, NAN), ("concentric-d5", 10, "x"): (NAN,)}
    )
    (line,) = estimate_table(rows, SUITES["hard"]).to_dict("records")
    assert (line["lda"], line["x"]) == ("1.5000", "")


def test_a_truth_that_is_an_upper_bound_says_so():
    task = SimpleNamespace(
        distribution=SimpleNamespace(label_entropy=2.3026, truth_is_upper_bound=True)
    )
    (line,) = estimate_table(paper_rows("lda", task="digits"), {"digits": task}).to_dict("records")
    assert (line["exact"], line["H(Y)"]) == ("≤ 1.0224", "2.3026")


def test_published_values_are_of_tasks_and_estimators_that_there_are():
    """The original's PC-softmax fell short on all eight; log K was too high on one dimension."""
    assert len([key for key in PUBLISHED if key[1] == "pc-softmax"]) == 8
    for (name, estimator), value in PUBLISHED.items():
        truth = SUITES["paper"][name].distribution.mutual_information()[0]
        assert estimator in ("pc-softmax", "softmax-log-k")
        if estimator == "pc-softmax":
            assert truth - 0.2 < value < truth - 0.01
    value = PUBLISHED["gaussian-d1-imbalanced", "softmax-log-k"]
    cap = SUITES["paper"]["gaussian-d1-imbalanced"].distribution
    excess = math.log(5) - cap.label_entropy
    assert value == pytest.approx(cap.mutual_information()[0] + excess, abs=0.03)


@pytest.mark.parametrize("sizes, drawn", [((10, 10), 0), ((10, 40), 2)])
def test_errors_over_sizes_are_drawn_of_tasks_with_several(
    monkeypatch, capsys, tmp_path, sizes, drawn
):
    """The other task has one size; its errors would hide the effect of the sizes."""
    cells = [("concentric-d5", size, "lda") for size in sizes] + [("student-dof1", 40, "lda")]
    rows, by_size = result_rows({cell: (0.1,) for cell in cells}), []
    for name in ("plot_errors", "plot_estimates", "plot_estimates_against_truth"):
        monkeypatch.setattr(benchmark_report, name, lambda *_: None)

    def keep(rows: pd.DataFrame, column: str, path) -> None:
        if column == "n_train":
            by_size.append(rows)

    monkeypatch.setattr(benchmark_report, "plot_error_against", keep)
    report(rows, SUITES["hard"], tmp_path)
    assert [set(rows["task"]) for rows in by_size] == [{"concentric-d5"}] * (drawn > 0)
    assert sum(map(len, by_size)) == drawn
    assert ("error_n_train.png" in capsys.readouterr().out.splitlines()[-1]) == (drawn > 0)
