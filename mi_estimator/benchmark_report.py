"""The report of the benchmark: estimates, their errors, all estimators in one table, figures."""

from pathlib import Path

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import formatted, summarise, to_markdown, write_tables
from mi_estimator.plots import plot_error_against, plot_estimates, plot_estimates_against_truth
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

    The last line of each estimator covers all its rows. Failures are counted.
    """
    rows = rows.assign(error=rows["estimate"] - rows["truth"], failed=rows["status"] != "ok")
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
        lines.append(line | {"seconds": f"{group['seconds'].mean():.1f}"})
    return pd.DataFrame(lines)


def rmse_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per task and size, one column per estimator: root mean square error in nats.

    An asterisk marks the smallest error of a line, to three digits, the oracle's aside. The number
    of failed runs stands in brackets. The last lines are the mean over tasks, of estimators that
    have an error on all of them, and the seconds of a run.
    """
    rows = rows.assign(square=(rows["estimate"] - rows["truth"]) ** 2)
    names = list(dict.fromkeys(rows["estimator"]))
    lines, values = [], []
    for (task, n_train), group in rows.groupby(["task", "n_train"], sort=False):
        by = group.groupby("estimator")
        rmse = np.sqrt(by["square"].mean()).reindex(names)
        failed = by["status"].agg(lambda status: int((status != "ok").sum()))
        failed = failed.reindex(names, fill_value=0)
        best = rmse.drop("oracle", errors="ignore").min()
        line = {"task": task, "n_train": n_train}
        for name in names:
            text = "" if np.isnan(rmse[name]) else f"{rmse[name]:.3f}"
            text += "*" if text == f"{best:.3f}" and name != "oracle" else ""
            line[name] = f"{text} ({failed[name]} failed)".lstrip() if failed[name] else text
        lines.append(line)
        values.append(rmse)
    means = pd.concat(values, axis=1).mean(axis=1, skipna=False)
    seconds = rows.groupby("estimator")["seconds"].mean()
    shown = {name: "" if np.isnan(means[name]) else f"{means[name]:.3f}" for name in names}
    lines.append({"task": "mean", "n_train": ""} | shown)
    shown = {name: f"{seconds[name]:.1f}" for name in names}
    lines.append({"task": "seconds a run", "n_train": ""} | shown)
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
    plot_estimates(good, folder / "estimates.png")
    plot_estimates_against_truth(good, folder / "truth.png")
    for column in ("n_train", "seconds"):
        plot_error_against(good, column, folder / f"error_{column}.png")
    print(to_markdown(estimates))
    print("root mean square error, nats:")
    print(to_markdown(errors))
    figures = "estimates.png, truth.png, error_n_train.png, error_seconds.png"
    print(f"wrote to {folder}: results.csv; table, errors, rmse (.md, .tex); {figures}")
