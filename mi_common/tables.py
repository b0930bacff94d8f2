"""Tables of result rows: mean and 95 % interval over seeds, paired differences, Markdown, LaTeX."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mi_common.errors import UserError
from mi_common.files import write_atomically, write_text


def interval_half_width(values: Sequence[float] | np.ndarray) -> float | np.ndarray:
    """Half the width of Student's 95 % interval of the mean; NaN for fewer than two values.

    (N,) values give a float, (N, M) values the half-widths of the M columns.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)[()]
    return stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def summarise(
    rows: pd.DataFrame,
    by: list[str],
    metrics: list[str],
    *,
    varying: Sequence[str] = ("seconds",),
    allow_missing: bool = False,
) -> pd.DataFrame:
    """Means over seeds: columns `by`, `n`, and for each metric `m` the columns `m` and `m_ci`.

    `m_ci` is half the width of the 95 % interval. Settings keep their order of appearance.

    Args:
        rows: one for each (setting, method, seed), with a column `seed`.
        by: the columns that identify a setting.
        varying: other columns that may differ between the seeds of a setting.
        allow_missing: a metric may lack a value with some seeds; then its mean is that of the
            others, and `m_ci` is NaN.

    UserError if rows of one setting share a seed, or differ in more than the seed, or if a metric
    has values with some of its seeds only.
    """
    fixed = [c for c in rows.columns if c not in {*by, *metrics, *varying, "seed"}]
    summary = []
    for key, group in rows.groupby(by, sort=False, dropna=False):
        if group["seed"].duplicated().any():
            raise UserError(f"{key}: two rows have the same seed; give each seed once")
        for column in fixed:
            if group[column].nunique(dropna=False) > 1:
                raise UserError(f"{key}: rows differ in {column!r} as well as in the seed")
        line = dict(zip(by, key, strict=True)) | {"n": len(group)}
        for metric in metrics:
            missing = group[metric].isna()
            if missing.any() and not (missing.all() or allow_missing):
                seeds = ", ".join(map(str, group["seed"][missing]))
                raise UserError(f"{key}: no {metric} with seed {seeds}; run it again")
            line[metric] = group[metric].mean()
            line[f"{metric}_ci"] = interval_half_width(group[metric])
        summary.append(line)
    return pd.DataFrame(summary)


def paired_differences(
    rows: pd.DataFrame,
    by: list[str],
    method: str,
    baseline: str,
    metrics: list[str],
    *,
    test: str | None = None,
) -> pd.DataFrame:
    """Differences to the baseline method with the same seed, summarised as in `summarise`.

    Args:
        by: the columns that identify a setting without the column `method`.
        method: the column that names the methods; `baseline` is one of them.
        test: a metric `m` whose paired t test gives the p-values in the column `m_p`.

    UserError if the baseline has no row for a seed of a method.
    """
    summarise(rows, [*by, method], metrics)  # refuses rows that differ in more than the seed
    index = [*by, "seed"]
    base = rows[rows[method] == baseline].set_index(index)[metrics]
    differences = []
    for name, group in rows[rows[method] != baseline].groupby(method, sort=False):
        group = group.set_index(index)[metrics]
        missing = group.index.difference(base.index)
        if len(missing):
            raise UserError(f"{name} {missing[0]}: no {baseline} row to pair with")
        difference = (group - base.loc[group.index]).reset_index()
        differences.append(difference.assign(**{method: f"{name} - {baseline}"}))
    if not differences:
        return pd.DataFrame(columns=[*by, method, "n", *metrics])
    differences = pd.concat(differences)
    table = summarise(differences, [*by, method], metrics)
    if test is not None:
        groups = differences.groupby([*by, method], sort=False)[test]
        table[f"{test}_p"] = groups.apply(paired_p_value).to_numpy()
    return table


def paired_p_value(differences: Sequence[float]) -> float:
    """Of Student's two-sided t test of differences in pairs; NaN for fewer than two pairs."""
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:  # where SciPy warns and divides zero by zero
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """(N,) p-values of a family of tests, adjusted by the step-down method of Holm (1979)."""
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort()
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """With so many decimals, and a plus if that is wanted; never "-0.0"."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def with_half_width(mean: float, half_width: float, digits: int, *, sign: bool = False) -> str:
    """`mean ± half-width` of an interval; the mean alone where the half-width is NaN."""
    text = number(mean, digits, sign=sign)
    return text if np.isnan(half_width) else f"{text} ± {half_width:.{digits}f}"


def mean_with_interval(values: Sequence[float], digits: int, *, sign: bool = False) -> str:
    """The mean of seeds or the like with half of Student's 95 % interval; of one value alone.

    `nan` if a value is missing.
    """
    values = np.asarray(values, dtype=float)
    return with_half_width(values.mean(), interval_half_width(values), digits, sign=sign)


def p_value(value: float) -> str:
    """With three decimals; a tiny one is not 0."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def formatted(
    summary: pd.DataFrame, metrics: list[str], *, digits: int = 2, scale: float = 1.0
) -> pd.DataFrame:
    """Joins `m` and `m_ci` of each metric to the text `mean ± half-width`, or the mean of one seed.

    Both numbers are multiplied by `scale`, such as 100 for percent, and have `digits` decimals.
    """
    table = summary.drop(columns=[f"{m}_ci" for m in metrics]).astype({m: object for m in metrics})
    for metric in metrics:
        pairs = zip(summary[metric] * scale, summary[f"{metric}_ci"] * scale, strict=True)
        table[metric] = [with_half_width(*pair, digits) for pair in pairs]
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table; floats with four significant digits, missing ones as empty cells."""
    # Not pandas: it needs `tabulate`, which leaves the bars in class names as they are.
    text = _text(table)
    lines = [text.columns, ["---"] * text.shape[1], *text.itertuples(index=False)]
    rows = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {row} |\n" for row in rows)


def to_latex(table: pd.DataFrame) -> str:
    """A booktabs tabular of the same texts."""
    return _text(table).to_latex(index=False, escape=True).replace("±", r"$\pm$")


def write_tables(table: pd.DataFrame, stem: Path) -> None:
    """Writes `stem.md` and `stem.tex`."""
    write_text(stem.with_suffix(".md"), to_markdown(table))
    write_text(stem.with_suffix(".tex"), to_latex(table))


def write_csv(
    table: pd.DataFrame, path: Path, *, index: bool = False, float_format: str | None = None
) -> None:
    options = {"index": index, "float_format": float_format}
    write_atomically(path, lambda partial: table.to_csv(partial, **options))


def _text(table: pd.DataFrame) -> pd.DataFrame:
    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.4g}"
        return str(value)

    return table.map(cell).rename(columns=str).reset_index(drop=True).astype(object)
