"""Intervals by hand, refusals, paired differences, Markdown and LaTeX letter by letter."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mi_common.errors import UserError
from mi_common.tables import (
    formatted,
    holm,
    interval_half_width,
    mean_with_interval,
    number,
    p_value,
    paired_differences,
    paired_p_value,
    summarise,
    to_latex,
    to_markdown,
    with_half_width,
    write_tables,
)


def rows(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns)


def three_seeds() -> pd.DataFrame:
    return rows(
        data=["mnist"] * 6,
        method=["pc", "pc", "pc", "softmax", "softmax", "softmax"],
        seed=[0, 1, 2, 2, 1, 0],
        accuracy=[0.90, 0.92, 0.97, 0.93, 0.90, 0.87],
        seconds=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    )


def test_half_width_by_hand():
    # 2, 4, 9: mean 5, variance (9 + 1 + 16) / 2 = 13, t(0.975, 2) = 4.302652729749...
    assert interval_half_width([2, 4, 9]) == pytest.approx(4.302652729749 * math.sqrt(13 / 3))
    assert interval_half_width([3, 3]) == 0
    assert math.isnan(interval_half_width([3]))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12))
def test_half_width_is_scipys_student_interval(values):
    spread = np.std(values, ddof=1) / math.sqrt(len(values))
    if spread < 1e-9:
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
    assert interval_half_width(values) == pytest.approx((high - low) / 2, rel=1e-6)


def test_summary_has_means_intervals_and_counts_in_order_of_appearance():
    summary = summarise(three_seeds(), ["data", "method"], ["accuracy"])
    assert list(summary.columns) == ["data", "method", "n", "accuracy", "accuracy_ci"]
    assert summary["method"].tolist() == ["pc", "softmax"]
    assert summary["n"].tolist() == [3, 3]
    assert summary["accuracy"].tolist() == pytest.approx([0.93, 0.90])
    # deviations -3, -1, 4 and 3, 0, -3 hundredths
    expected = [4.30265273 * math.sqrt(v / 2 / 3) / 100 for v in (26, 18)]
    assert summary["accuracy_ci"].tolist() == pytest.approx(expected)
    assert summarise(three_seeds()[:3], ["method"], ["accuracy"])["n"].tolist() == [3]


def test_rows_that_differ_in_more_than_the_seed_are_not_averaged():
    with pytest.raises(UserError, match="rows differ in 'lr'"):
        summarise(three_seeds().assign(lr=[0.1, 0.1, 0.2] * 2), ["method"], ["accuracy"])
    with pytest.raises(UserError, match="rows differ in 'note'"):
        summarise(three_seeds().assign(note=[None, None, "x"] * 2), ["method"], ["accuracy"])
    same = three_seeds().assign(lr=[0.1] * 3 + [0.2] * 3)
    assert len(summarise(same, ["method"], ["accuracy"])) == 2


def test_a_repeated_seed_is_refused():
    with pytest.raises(UserError, match="give each seed once"):
        summarise(three_seeds().assign(seed=[0, 1, 1, 0, 1, 2]), ["method"], ["accuracy"])


def test_a_metric_without_a_value_with_some_seed_is_refused():
    rows = three_seeds()
    rows.loc[1, "accuracy"] = np.nan
    with pytest.raises(UserError, match=r"'pc'\): no accuracy with seed 1"):
        summarise(rows, ["data", "method"], ["accuracy"])
    allowed = summarise(rows, ["data", "method"], ["accuracy"], allow_missing=True)
    assert allowed["accuracy"][0] == pytest.approx((0.90 + 0.97) / 2)
    assert np.isnan(allowed["accuracy_ci"][0]) and allowed["accuracy_ci"][1] > 0
    rows.loc[:2, "accuracy"] = np.nan  # a method without that score
    assert np.isnan(summarise(rows, ["data", "method"], ["accuracy"])["accuracy"][0])


def test_a_missing_setting_is_a_setting_of_its_own():
    table = three_seeds().assign(tau=[1.0] * 3 + [np.nan] * 3)
    assert summarise(table, ["data", "tau"], ["accuracy"])["n"].tolist() == [3, 3]


def test_paired_differences_by_hand():
    paired = paired_differences(three_seeds(), ["data"], "method", "softmax", ["accuracy"])
    assert paired["method"].tolist() == ["pc - softmax"]
    assert paired["n"].tolist() == [3]
    # by seed: 0.90 - 0.87, 0.92 - 0.90, 0.97 - 0.93 = 0.03, 0.02, 0.04
    assert paired["accuracy"].item() == pytest.approx(0.03)
    assert paired["accuracy_ci"].item() == pytest.approx(4.30265273 * 0.01 / math.sqrt(3))


def test_p_values_are_those_of_a_paired_t_test():
    paired = paired_differences(
        three_seeds(), ["data"], "method", "softmax", ["accuracy"], test="accuracy"
    )
    expected = stats.ttest_rel([0.90, 0.92, 0.97], [0.87, 0.90, 0.93]).pvalue
    assert paired["accuracy_p"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("differences", "p"), [([0, 0], 1), ([2, 2], 0), ([1], math.nan)])
def test_p_values_without_spread(differences, p):
    assert paired_p_value(differences) == pytest.approx(p, nan_ok=True)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # The example of the step-down: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 raised to 0.06.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1, 1]),
        ([0.02, 0.02, 0.5], [0.06, 0.06, 0.5]),
        ([0.7, 0.4], [0.8, 0.8]),
        ([0.04], [0.04]),
    ],
)
def test_holms_p_values_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("value", "sign", "shown"),
    [
        *((1.25, False, "1.2"), (1.25, True, "+1.2"), (-1.25, True, "-1.2")),
        *((-0.04, False, "0.0"), (-0.04, True, "0.0"), (0.04, True, "+0.0")),
    ],
)
def test_numbers_have_no_negative_zero(value, sign, shown):
    assert number(value, 1, sign=sign) == shown
    assert with_half_width(value, 0.5, 1, sign=sign) == f"{shown} ± 0.5"
    assert with_half_width(value, math.nan, 1, sign=sign) == shown


@pytest.mark.parametrize(
    ("values", "shown"), [([2, 4, 9], f"+5.0 ± {4.302653 * math.sqrt(13 / 3):.1f}"), ([3], "+3.0")]
)
def test_a_mean_has_students_interval_and_one_value_has_none(values, shown):
    assert mean_with_interval(values, 1, sign=True) == shown


def test_a_missing_value_is_no_smaller_sample():
    assert "nan" in mean_with_interval(pd.Series([2.0, math.nan, 4.0]), 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3e-40, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.0126, "0.013"), (1.0, "1.000")],
)
def test_a_tiny_p_value_is_not_zero(value, shown):
    assert p_value(value) == shown


def test_paired_differences_stay_within_their_setting():
    two = pd.concat([three_seeds(), three_seeds().assign(data="cub", accuracy=[1, 1, 1, 0, 0, 0])])
    paired = paired_differences(two, ["data"], "method", "softmax", ["accuracy"])
    assert paired["data"].tolist() == ["mnist", "cub"]
    assert paired["accuracy"].tolist() == pytest.approx([0.03, 1.0])
    assert paired["accuracy_ci"].tolist()[1] == 0


def test_a_seed_without_partner_is_refused_and_named():
    with pytest.raises(UserError, match=r"pc .*mnist.*0.*: no softmax row to pair with"):
        paired_differences(three_seeds()[:-1], ["data"], "method", "softmax", ["accuracy"])
    with pytest.raises(UserError, match="no nothing row"):
        paired_differences(three_seeds(), ["data"], "method", "nothing", ["accuracy"])


def test_paired_differences_refuse_doubled_and_unequal_rows():
    doubled = pd.concat([three_seeds(), three_seeds()[3:]])
    with pytest.raises(UserError):
        paired_differences(doubled, ["data"], "method", "softmax", ["accuracy"])
    unequal = three_seeds().assign(epochs=[8, 8, 1, 8, 8, 8])
    with pytest.raises(UserError, match="epochs"):
        paired_differences(unequal, ["data"], "method", "softmax", ["accuracy"])


def test_only_the_baseline_gives_an_empty_table():
    table = paired_differences(three_seeds()[3:], ["data"], "method", "softmax", ["accuracy"])
    assert len(table) == 0 and list(table.columns) == ["data", "method", "n", "accuracy"]


def summary() -> pd.DataFrame:
    return rows(
        method=["pc_softmax", "a & b"],
        n=[3, 1],
        share=[12.3456, float("nan")],
        accuracy=[0.96893, 0.5],
        accuracy_ci=[0.00061, float("nan")],
    )


def test_mean_and_interval_become_one_text():
    table = formatted(summary(), ["accuracy"], digits=2, scale=100)
    assert table["accuracy"].tolist() == ["96.89 ± 0.06", "50.00"]
    assert list(table.columns) == ["method", "n", "share", "accuracy"]


def test_markdown_letter_by_letter():
    assert to_markdown(formatted(summary(), ["accuracy"], digits=4)) == (
        "| method | n | share | accuracy |\n"
        "| --- | --- | --- | --- |\n"
        "| pc_softmax | 3 | 12.35 | 0.9689 ± 0.0006 |\n"
        "| a & b | 1 |  | 0.5000 |\n"
    )


def test_latex_letter_by_letter():
    table = formatted(summary(), ["accuracy"], digits=4).rename(columns={"share": "share %"})
    assert to_latex(table) == (
        "\\begin{tabular}{llll}\n"
        "\\toprule\n"
        "method & n & share \\% & accuracy \\\\\n"
        "\\midrule\n"
        "pc\\_softmax & 3 & 12.35 & 0.9689 $\\pm$ 0.0006 \\\\\n"
        "a \\& b & 1 &  & 0.5000 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_names_of_users_are_escaped_and_any_index_is_written():
    names = ["a|b", "x_y & <z>", "5 % of $1 {#}", "~^\\"]
    table = pd.DataFrame({"class|name": names, "n": [1, 2, 3, 4]}, index=[0, 0, 1, 1])
    assert to_markdown(table).splitlines()[::2] == [
        r"| class\|name | n |",
        r"| a\|b | 1 |",
        "| 5 % of $1 {#} | 3 |",
    ]
    tex = to_latex(table).splitlines()
    assert tex[2] == r"class|name & n \\" and tex[4] == r"a|b & 1 \\"
    assert tex[5] == r"x\_y \& <z> & 2 \\" and tex[6] == r"5 \% of \$1 \{\#\} & 3 \\"
    assert tex[7] == r"\textasciitilde \textasciicircum \textbackslash  & 4 \\"


def test_both_files_are_written(tmp_path):
    table = formatted(summary(), ["accuracy"])
    write_tables(table, tmp_path / "table")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == to_markdown(table)
    assert (tmp_path / "table.tex").read_text(encoding="utf-8") == to_latex(table)
    assert len(list(tmp_path.iterdir())) == 2
