"""The report of the benchmark: estimates, their errors, all estimators in one table, figures."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import formatted, summarise, to_markdown, write_tables
from mi_estimator.plots import (
    plot_error_against,
    plot_errors,
    plot_estimates,
    plot_estimates_against_truth,
)
from mi_estimator.tasks.suites import PUBLISHED, Task


def estimate_table(rows: pd.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """One line per task and size: H(Y), exact value, each estimator's mean over seeds, in nats.

    Failed rows are left out. On the paper's tasks the last columns are the estimates of its
    authors' checkpoints (see `PUBLISHED`).
    """
    good = rows[rows["status"] == "ok"]
    by, varying = ["task", "estimator", "n_train", "truth"], ("seconds", "lower", "upper", "status")
    summary = formatted(summarise(good, by, ["estimate"], varying=varying), ["estimate"], digits=4)
    names = list(dict.fromkeys(rows["estimator"]))
    published = [n for n in names if any((task, n) in PUBLISHED for task in set(rows["task"]))]
    lines = []
    for (task, n_train), group in summary.groupby(["task", "n_train"], sort=False):
        distribution = tasks[task].distribution
        exact = f"{group['truth'].iloc[0]:.4f}"
        line = {"task": task, "n_train": n_train, "H(Y)": f"{distribution.label_entropy:.4f}"}
        line["exact"] = ("≤ " if distribution.truth_is_upper_bound else "") + exact
        estimates = group.set_index("estimator")["estimate"]
        line |= {name: estimates.get(name, "") for name in names}
        for name in published:
            value = PUBLISHED.get((task, name))
            line[f"original {name}"] = f"{value:.3f}" if value else ""
        lines.append(line)
    return pd.DataFrame(lines)


def error_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per estimator and task: bias, spread over seeds, root mean square error, seconds.

    `above_truth` is the share of estimates whose 95 % interval lies above the exact value and its
    error bound. The last line of each estimator covers all its rows. Failures are counted.
    """
    rows = rows.assign(
        error=rows["estimate"] - rows["truth"],
        failed=rows["status"] != "ok",
        above=rows["lower"] > rows["truth"] + rows["truth_error"],
    )
    groups = [
        *rows.groupby(["estimator", "task", "n_train"], sort=False),
        *(((name, "all", ""), group) for name, group in rows.groupby("estimator", sort=False)),
    ]
    lines = []
    for (estimator, task, n_train), group in groups:
        error = group["error"].dropna()
        line = {"estimator": estimator, "task": task, "n_train": n_train, "n": len(error)}
        line["failed"] = int(group["failed"].sum())
        line["bias"] = f"{error.mean():+.4f}" if len(error) else ""
        line["spread"] = f"{error.std():.4f}" if len(error) > 1 and task != "all" else ""
        line["rmse"] = f"{np.sqrt((error**2).mean()):.4f}" if len(error) else ""
        line["above_truth"] = f"{group['above'].sum() / len(error):.3f}" if len(error) else ""
        lines.append(line | {"seconds": f"{group['seconds'].mean():.1f}"})
    return pd.DataFrame(lines)


def errors_and_failures(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Root mean square errors in nats, and numbers of failed runs.

    Both have a line per (task, n_train) and a column per estimator. An error is NaN if all runs
    failed, or there were none.
    """
    rows = rows.assign(
        square=(rows["estimate"] - rows["truth"]) ** 2, failed=(rows["status"] != "ok").astype(int)
    )
    cells = rows.groupby(["task", "n_train", "estimator"], sort=False)
    errors, failed = np.sqrt(cells["square"].mean()).unstack(), cells["failed"].sum().unstack()
    order = list(dict.fromkeys(rows["estimator"]))
    lines = pd.MultiIndex.from_frame(rows[["task", "n_train"]].drop_duplicates())
    return errors.loc[lines, order], failed.loc[lines, order].fillna(0).astype(int)


def rmse_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per task and size, one column per estimator: root mean square error in nats.

    An asterisk marks the smallest error of a line, to three digits, the oracle's aside. The number
    of failed runs stands in brackets. Then come, of estimators that have an error on all tasks, the
    mean over tasks and the worst gap (the largest difference to the smallest error of a line, the
    oracle aside); and the seconds of a run.
    """
    errors, failed = errors_and_failures(rows)
    best = errors.drop(columns="oracle", errors="ignore").min(axis=1)
    lines = []
    for (task, n_train), line in errors.iterrows():
        lines.append({"task": task, "n_train": n_train})
        for name, error in line.items():
            text = "" if np.isnan(error) else f"{error:.3f}"
            text += "*" if text == f"{best[task, n_train]:.3f}" and name != "oracle" else ""
            failures = failed.loc[(task, n_train), name]
            lines[-1][name] = f"{text} ({failures} failed)".lstrip() if failures else text
    gaps = errors.sub(best, axis=0).max(skipna=False)
    if "oracle" in gaps:
        gaps["oracle"] = np.nan
    summaries = {
        "mean": (errors.mean(skipna=False), 3),
        "worst gap to the best": (gaps, 3),
        "seconds a run": (rows.groupby("estimator")["seconds"].mean()[errors.columns], 1),
    }
    for title, (values, digits) in summaries.items():
        texts = ["" if np.isnan(value) else f"{value:.{digits}f}" for value in values]
        lines.append({"task": title, "n_train": ""} | dict(zip(errors.columns, texts, strict=True)))
    return pd.DataFrame(lines)


def report(rows: pd.DataFrame, tasks: dict[str, Task], folder: Path) -> None:
    """Prints failures and tables, writes tables and figures; UserError if all estimates failed."""
    good = rows[rows["status"] == "ok"]
    for _, row in rows[rows["status"] != "ok"].iterrows():
        print(f"{row['task']} {row['estimator']} seed {row['seed']}: {row['status']}")
    if good.empty:
        raise UserError(f"every estimate failed; {folder}/results.csv says why")
    estimates = estimate_table(rows, tasks)
    write_tables(estimates, folder / "table")
    write_tables(error_table(rows), folder / "errors")
    errors = rmse_table(rows)
    write_tables(errors, folder / "rmse")
    plot_errors(*errors_and_failures(rows), folder / "rmse.png")
    plot_estimates(good, folder / "estimates.png")
    plot_estimates_against_truth(good, folder / "truth.png")
    plot_error_against(good, "seconds", folder / "error_seconds.png")
    figures = ["rmse.png", "estimates.png", "truth.png", "error_seconds.png"]
    sizes = good.groupby("task")["n_train"].transform("nunique")
    if (sizes > 1).any():
        plot_error_against(good[sizes > 1], "n_train", folder / "error_n_train.png")
        figures.append("error_n_train.png")
    print(to_markdown(estimates))
    print("root mean square error, nats:")
    print(to_markdown(errors))
    print(f"wrote to {folder}: results.csv; table, errors, rmse (.md, .tex); {', '.join(figures)}")
