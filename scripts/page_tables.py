"""The tables of the pages, made of the rows in `resources/`; see `scripts.make_tables`.

Each function takes the rows of the CSV files that its marker names, and returns the table as shown.
Those of localisation stand in `page_tables_boxes`.
"""

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import formatted, number, p_value, summarise
from mi_estimator.benchmark_report import estimate_table, rmse_table
from mi_estimator.tasks.suites import SUITES
from pc_softmax.comparison import TESTED, differences_to_baselines
from pc_softmax.metrics import SCORES
from scripts import gpu_timings, pages, plain_timings, provenance, timings

NOT_SHOWN = ["shrunk-lda", "regularised-qda", "nearest-neighbours"]  # of the hard tasks
SHOWN_SHIFTS = (
    ("forward", 50),
    ("forward", 10),
    ("uniform", 1),
    ("backward", 10),
    ("backward", 50),
)
ESTIMATED = ("em", "bbse", "pacc")
QUAPY_DATA = {"mnist": "MNIST", "digits": "noisy digits", "tabular": "made-up table"}
SHOWN_VALIDATION = (3, 10)  # samples of the rarest class
FIRST_KILL = "SIGKILL at a moment"  # the kinds of the attack before it are generated inputs


def files() -> pd.DataFrame:
    """The files in `resources/` and where their rows are from."""
    return provenance.files_table(pages.ROOT / "resources")


def paper_estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Estimates of the paper's tasks beside the exact and the original's values, in nats."""
    return estimate_table(rows, SUITES["paper"])


def hard_errors(rows: pd.DataFrame) -> pd.DataFrame:
    errors = table_errors(rows).drop(columns=NOT_SHOWN)
    first = ["task", "n_train", "oracle", "auto"]
    return errors[[*first, *errors.columns.difference(first, sort=False)]]


def table_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Root mean square errors in nats."""
    errors = rmse_table(rows)
    return errors[errors["task"] != "seconds a run"]


def class_scores(rows: pd.DataFrame, metrics: list[str] = SCORES) -> pd.DataFrame:
    """Scores of losses and rules in percent; one column for each metric and test set."""
    rows = rows.drop(columns=[name for name in SCORES if name not in metrics])
    summary = summarise(rows, ["test_set", "loss", "rule"], metrics)
    cells = formatted(summary, metrics, scale=100).set_index(["loss", "rule", "test_set"])
    columns = {
        f"{test_set}: {metric.replace('_', ' ')}": cells[metric].xs(test_set, level="test_set")
        for test_set in dict.fromkeys(rows["test_set"])
        for metric in metrics
    }
    return pd.DataFrame(columns).reset_index()


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """As `class_scores`; no worst class, which has as few as five images."""
    return class_scores(rows, ["accuracy", "balanced_accuracy"])


def balanced_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of the balanced accuracy to PC-softmax in points, and Holm's p-values."""
    differences, ending = differences_to_baselines(rows), " - pc-softmax"
    shown = differences["loss"].str.endswith(ending) & differences["holm_p"].notna()
    differences = differences[shown].assign(loss=lambda d: d["loss"].str.removesuffix(ending))
    cells = differences.set_index(["loss", "test_set"])
    columns = {}
    for test_set in dict.fromkeys(rows["test_set"]):
        of_set = cells.xs(test_set, level="test_set")
        columns[f"{test_set}: minus pc-softmax"] = of_set[TESTED].map(signed)
        columns[f"{test_set}: Holm's p"] = of_set["holm_p"].map(p_value)
    table = pd.DataFrame(columns).rename_axis("loss").reset_index()
    rule = table["loss"].str.partition(", ")[2].replace("", "as trained")
    table.insert(1, "rule", rule)
    return table.assign(loss=table["loss"].str.partition(", ")[0])


def signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def tuned(rows: pd.DataFrame, dataset: str, imbalance: str = "paper") -> pd.DataFrame:
    """Each loss with the rate and head that validation images chose, on the official test set."""
    rows = rows[(rows["tuned"] == "lr head") & (rows["test_set"] == "official")]
    rows = rows[rows["dataset"].eq(dataset) & rows["imbalance"].eq(imbalance)]
    rows = rows.drop(columns=["imbalance", "tuned"])
    by = ["loss", "rule", "head", "lr"]
    kept = rows[~rows["rule"].eq("prior added")]
    others = [name for name in SCORES if name != TESTED]
    scores = formatted(summarise(kept.drop(columns=others), by, [TESTED]), [TESTED], scale=100)
    table = scores.merge(balanced_differences(rows), how="left", on=["loss", "rule"], sort=False)
    table.columns = [*by, "n", "balanced accuracy", "minus PC-softmax", "Holm's p"]
    table = table.rename(columns={"lr": "learning rate"}).drop(columns="n")
    return table.fillna({"minus PC-softmax": "", "Holm's p": ""})


def shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in percent under each prior, errors of the estimated priors, least gains."""
    targets = ["argmax", "uniform", "train", *ESTIMATED, "oracle: known prior"]
    names = {"oracle: known prior": "true prior"}
    lines = []
    for shift, ratio in SHOWN_SHIFTS:
        group = rows[(rows["shift"] == shift) & rows["ratio"].round().eq(ratio)]
        by_seed = group.groupby("seed").mean(numeric_only=True)
        line = {"shift": shift, "ratio": ratio, "n": round(group["n"].mean())}
        line |= {names.get(name, name): f"{100 * group[name].mean():.2f}" for name in targets}
        for name in ESTIMATED:
            error = by_seed[f"{name}_total_variation"]
            line[f"{name}, total variation"] = f"{error.mean():.4f} ({error.max():.4f})"
        for name in ESTIMATED:
            least = 100 * (by_seed[name] - by_seed["argmax"]).min()
            line[f"{name}, least gain"] = number(least, 2, sign=True)
        lines.append(line)
    return pd.DataFrame(lines)


def prior_estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Total variation in percent by method and data set, means over shifts; mean gain in points."""
    rows = rows[rows["method"] != "auto"]
    by_data = rows.groupby(["method", "data"], sort=False)[["total_variation", "gain"]].mean()
    table = by_data["total_variation"].unstack()[list(QUAPY_DATA)].rename(columns=QUAPY_DATA)
    table = table.dropna().assign(mean=lambda errors: errors.mean(axis=1))
    table["gain"] = by_data["gain"].unstack().mean(axis=1)
    return table.sort_values("mean").map(lambda v: number(v, 2)).reset_index()


def simulated_shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Total variation in percent and gains in points, means over the settings.

    Empty where a method gives no estimate in one of them.
    """
    names = ["classes", "classifier", "validation"]
    rows = rows[rows["validation"].isin(SHOWN_VALIDATION)]
    cells = rows.groupby([*names, "method"])[["total_variation", "gain"]]
    means = cells.agg(lambda values: values.mean(skipna=False)).unstack()
    table = means.index.to_frame(index=False).rename(columns={names[-1]: "validation samples"})
    for method in ("em", "em, not calibrated", "bbse", "pacc"):
        table[method] = _shown(means["total_variation", method])
    for method in ("auto", "bbse", "pacc"):
        table[f"gain of {method}"] = _shown(means["gain", method], sign=True)
    return table


def _shown(column: pd.Series, *, sign: bool = False) -> list[str]:
    return ["" if pd.isna(value) else number(value, 2, sign=sign) for value in column]


def cpu_speed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `scripts.speed --parts plain`."""
    return timings.shown(rows, plain_timings.COLUMNS)


def gpu_speed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `scripts.speed --parts gpu`."""
    return timings.shown(rows, gpu_timings.COLUMNS)


def attack(rows: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of the attack: of generated inputs, and of what happens while a script runs."""
    starts = np.flatnonzero(rows["kind"] == FIRST_KILL)
    if len(starts) != 1:
        raise UserError(f"{len(starts)} rows of the kind {FIRST_KILL!r}, which must be there once")
    first = starts[0]
    parts = {"generated inputs": rows[:first], "kills, full disks, two at once": rows[first:]}
    lines = []
    for name, kinds in parts.items():
        counts = kinds.drop(columns="kind").sum()
        texts = {key.replace("_", " "): f"{count:,}" for key, count in counts.items()}
        lines.append({"what": f"{name}, {len(kinds)} kinds"} | texts)
    return pd.DataFrame(lines)
