"""Result rows to tables: mean and 95 % interval over seeds, paired differences, three formats."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mi_common.errors import UserError
from mi_common.files import write_atomically


def interval_half_width(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of the mean; NaN for fewer than two values."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def summarise(
    rows: pd.DataFrame,
    by: list[str],
    metrics: list[str],
    *,
    varying: Sequence[str] = ("seconds",),
) -> pd.DataFrame:
    """Means over seeds: columns `by`, `n`, and for each metric `m` the columns `m` and `m_ci`.

    Args:
        rows: one a (setting, method, seed), with a column `seed`.
        by: the columns that tell settings apart; their order of appearance is kept.
        metrics: the columns to average; `m_ci` is half the width of the 95 % interval.
        varying: further columns that may differ between the seeds of a setting.

    Raises:
        UserError: rows of one setting share a seed, or differ in more than the seed.
    """
    fixed = [c for c in rows.columns if c not in {*by, *metrics, *varying, "seed"}]
    summary = []
    for key, group in rows.groupby(by, sort=False, dropna=False):
        if group["seed"].duplicated().any():
            raise UserError(f"{key}: a seed stands twice; rows must differ in the seed")
        for column in fixed:
            if group[column].nunique(dropna=False) > 1:
                raise UserError(f"{key}: rows differ in {column!r} as well as in the seed")
        line = dict(zip(by, key, strict=True)) | {"n": len(group)}
        for metric in metrics:
            line[metric] = group[metric].mean()
            line[f"{metric}_ci"] = interval_half_width(group[metric])
        summary.append(line)
    return pd.DataFrame(summary)


def paired_differences(
    rows: pd.DataFrame, by: list[str], method: str, baseline: str, metrics: list[str]
) -> pd.DataFrame:
    """Differences to the baseline method with the same seed, summarised as in `summarise`.

    Args:
        by: the columns of a setting, without the method's.
        method: the column that names the method.
        baseline: its value to subtract.

    Raises:
        UserError: a seed of a method has no counterpart in the baseline.
    """
    summarise(rows, [*by, method], metrics)  # refuses rows that differ in more than the seed
    index = [*by, "seed"]
    base = rows[rows[method] == baseline].set_index(index)[metrics]
    others = rows[rows[method] != baseline]
    differences = []
    for name, group in others.groupby(method, sort=False):
        group = group.set_index(index)[metrics]
        missing = group.index.difference(base.index)
        if len(missing):
            raise UserError(f"{name} {missing[0]}: no {baseline} row to pair with")
        difference = (group - base.loc[group.index]).reset_index()
        differences.append(difference.assign(**{method: f"{name} - {baseline}"}))
    if not differences:
        return pd.DataFrame(columns=[*by, method, "n", *metrics])
    return summarise(pd.concat(differences), [*by, method], metrics)


def formatted(
    summary: pd.DataFrame, metrics: list[str], *, digits: int = 2, scale: float = 1.0
) -> pd.DataFrame:
    """Joins each `m` and `m_ci` to text `mean ± half-width`; one seed shows the mean alone."""
    table = summary.drop(columns=[f"{m}_ci" for m in metrics]).astype({m: object for m in metrics})
    for metric in metrics:
        pairs = zip(summary[metric] * scale, summary[f"{metric}_ci"] * scale, strict=True)
        table[metric] = [
            f"{mean:.{digits}f}" + ("" if np.isnan(ci) else f" ± {ci:.{digits}f}")
            for mean, ci in pairs
        ]
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table, numbers as they are printed."""
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1]]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def to_latex(table: pd.DataFrame) -> str:
    """A booktabs tabular."""
    lines = [[_latex(str(column)) for column in table.columns]]
    lines += [[_latex(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    head, *body = [" & ".join(line) + r" \\" for line in lines]
    columns = "l" * table.shape[1]
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_tables(table: pd.DataFrame, stem: Path) -> None:
    """Writes `stem.md` and `stem.tex`."""
    for suffix, text in ((".md", to_markdown(table)), (".tex", to_latex(table))):
        write_atomically(
            stem.with_suffix(suffix), lambda partial, text=text: partial.write_text(text)
        )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)


_LATEX = {character: "\\" + character for character in "&%_#${}"}
_LATEX |= {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "±": r"$\pm$"}


def _latex(text: str) -> str:
    return text.translate(str.maketrans(_LATEX))
