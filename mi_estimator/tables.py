"""Tables of the benchmark: estimates, their errors, and all estimators on one page."""

import numpy as np
import pandas as pd

from mi_common.tables import formatted, summarise
from mi_estimator.tasks.suites import PUBLISHED, Task


def estimate_table(rows: pd.DataFrame, tasks: dict[str, Task]) -> pd.DataFrame:
    """A line a task and size: H(Y), the exact value and each estimator's mean over seeds, in nats.

    Failed rows are left out. On the paper's tasks the last columns are what the checkpoints that
    its authors published give (see `PUBLISHED`).
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
    """A line an estimator and task: bias, spread over seeds, root mean square error, seconds.

    A last line an estimator gives the root mean square over all rows; failures are counted.
    """
    rows = rows.assign(error=rows["estimate"] - rows["truth"], failed=rows["status"] != "ok")
    groups = [
        *rows.groupby(["estimator", "task", "n_train"], sort=False),
        *(((name, "all", ""), group) for name, group in rows.groupby("estimator", sort=False)),
    ]
    lines = []
    for (estimator, task, n_train), group in groups:
        error = group["error"].dropna()
        lines.append(
            {
                "estimator": estimator,
                "task": task,
                "n_train": n_train,
                "n": len(error),
                "failed": int(group["failed"].sum()),
                "bias": f"{error.mean():+.4f}" if len(error) else "",
                "spread": f"{error.std():.4f}" if len(error) > 1 and task != "all" else "",
                "rmse": f"{np.sqrt((error**2).mean()):.4f}" if len(error) else "",
                "seconds": f"{group['seconds'].mean():.1f}",
            }
        )
    return pd.DataFrame(lines)


def rmse_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a task and size, a column an estimator: root mean square error in nats.

    The least of a line, to three digits, has an asterisk; the oracle takes no part. Where runs
    failed, how many did stands beside. The last lines are the mean over tasks, of those that
    finished each, and the seconds of a run.
    """
    rows = rows.assign(square=(rows["estimate"] - rows["truth"]) ** 2)
    names = list(dict.fromkeys(rows["estimator"]))
    lines, values = [], []
    for (task, n_train), group in rows.groupby(["task", "n_train"], sort=False):
        by = group.groupby("estimator")
        rmse = np.sqrt(by["square"].mean())
        failed = by["status"].agg(lambda status: int((status != "ok").sum()))
        best = rmse.drop("oracle", errors="ignore").min()
        line = {"task": task, "n_train": n_train}
        for name in names:
            if name not in rmse:
                line[name] = ""
                continue
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
