"""One replicate of the simulation of coverage, and the table of all replicates."""

import pandas as pd
import torch
from scipy import stats

from mi_common.information import select_label
from mi_common.runtime import Runtime
from mi_estimator.estimators.base import Estimator
from mi_estimator.estimators.crossfit import cross_fit
from mi_estimator.estimators.registry import Settings, build_estimator
from mi_estimator.tasks.gaussians import GaussianClasses
from mi_estimator.tasks.vectors import ConcentricClasses, Independent

TASKS = {
    "gaussian-d2": GaussianClasses(2),
    "concentric-d5": ConcentricClasses(5),
    "independent-k2": Independent(2, dim=5),
    "independent-k10": Independent(10, dim=5),
    "independent-k2-d50": Independent(2, dim=50),
    "independent-k5-d50": Independent(5, dim=50),
    "independent-k10-d50": Independent(10, dim=50),
}

COLUMNS = ["task", "replicate", "estimate", "lower", "upper", "expected_value", "p_value"]
KEY = ["task", "replicate"]


def expected_value(estimators: list, name: str, n: int = 20_000) -> float:
    """The expected estimate on new samples of the task, averaged over estimators, in nats.

    The oracle's terms on the same samples are a control variate: their random deviation from
    I(X;Y) is subtracted.
    """
    task = TASKS[name]
    x, y = task.sample(n, torch.Generator().manual_seed(2**40 + list(TASKS).index(name)))
    oracle = select_label(task.log_ratio(x), y)
    values = [(estimator.terms(x, y).double() - oracle).mean() for estimator in estimators]
    return torch.stack(values).mean().item() + task.mutual_information()[0]


def run_replicate(
    name: str, replicate: int, estimator: str, n: int, permutations: int, device: Runtime
) -> list[dict]:
    """The row of one cross-fitted estimate: interval, the value it should cover, and p-value."""
    generator = torch.Generator().manual_seed(1000 * replicate + list(TASKS).index(name))
    x, y = TASKS[name].sample(n, generator)
    short = Settings(epochs=20, batch_size=50, lr=5e-3, members=4)  # of thousands of networks
    settings = Settings() if estimator == "auto" else short
    estimators = []

    def build(seed: int) -> Estimator:
        estimators.append(build_estimator(estimator, device, seed, settings))
        return estimators[-1]

    fit = cross_fit(build, x, y, folds=5, seed=replicate)
    estimate = fit.estimate()
    row = {"task": name, "replicate": replicate, "estimate": estimate.value}
    row |= {"lower": estimate.lower, "upper": estimate.upper}
    row["expected_value"] = expected_value(estimators, name)
    return [row | {"p_value": fit.permutation_p_value(permutations, replicate)}]


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per task: shares of replicates; `covered` and `rejected` with exact intervals."""
    lines = []
    for name, group in rows.groupby("task", sort=False):
        n, truth, mean = len(group), TASKS[name].mutual_information()[0], group["estimate"].mean()
        covered = group["expected_value"].between(group["lower"], group["upper"])
        covers_mean = (group["lower"] <= mean) & (mean <= group["upper"])
        rejected = group["p_value"] <= 0.05
        shares = {}
        for share, hits in (("covered", covered), ("rejected", rejected)):
            low, high = stats.binomtest(int(hits.sum()), n).proportion_ci()
            shares |= {share: hits.mean(), f"{share}_low": low, f"{share}_high": high}
        line = {"task": name, "replicates": n, "truth": truth, "mean_estimate": mean}
        line["spread"] = group["estimate"].std()
        line["mean_half_width"] = (group["upper"] - group["lower"]).mean() / 2
        line |= shares | {"covers_mean_estimate": covers_mean.mean()}
        line["above_truth"] = (group["lower"] > truth).mean()
        lines.append(line | {"below_truth": (group["upper"] < truth).mean()})
    return pd.DataFrame(lines)
