"""The information of each feature or group of features, alone and given the rest: cells of `rank`.

All cross-fits of one estimator have the same folds, so two of them are compared sample by sample:
I(A; Y | B) = I(A, B; Y) - I(B; Y) is the mean of the differences of their out-of-fold terms. The
chain rule therefore holds exactly for these estimates. Both parts are lower bounds in expectation;
their difference is an estimate, but no bound.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mi_common.files import damaged_file, read_arrays, save_arrays
from mi_common.information import pointwise_mutual_information, select_label
from mi_common.results import ResultsFile
from mi_common.runtime import Runtime, one_thread
from mi_common.workers import run_jobs
from mi_estimator.estimators.base import Estimator, MIEstimate
from mi_estimator.estimators.crossfit import CrossFit, cross_fit
from mi_estimator.estimators.registry import NETWORKS, Settings, build_estimator
from mi_estimator.feature_groups import Group

KEY = ["feature", "estimator"]
KINDS = ("alone", "conditional")
VALUES = [f"{kind}{end}" for kind in KINDS for end in ("", "_lower", "_upper", "_p")]
COLUMNS = [*KEY, *VALUES, "seconds"]
ALL = "all features"
FAST = "auto-fast"  # the table's name of `auto` without what takes most of its time
SLOW = (*NETWORKS, "extra-trees")
PERMUTED = 500  # test samples of a fold, of which the importance is measured


@dataclass(frozen=True)
class Stage:
    """An estimator, the name that tables give it, and its settings for one feature and for more."""

    label: str
    estimator: str
    of_one: Settings
    of_many: Settings


def stages_of(estimator: str, settings: Settings, leaders: int) -> list[Stage]:
    """One stage; of "auto" a fast one and, if there are `leaders`, the complete one.

    The fast stage has no networks, extra trees, or selected features. Neither has a complete fit on
    a single feature, which needs them least.
    """
    stage = Stage(estimator, estimator, settings, settings)
    candidates = tuple(name for name in settings.candidates if name not in SLOW)
    if estimator != "auto" or candidates in ((), settings.candidates):
        return [stage]
    fast = dataclasses.replace(settings, candidates=candidates, select_features=False)
    stages = [Stage(FAST, estimator, fast, fast), Stage(estimator, estimator, fast, settings)]
    return stages if leaders else stages[:1]


@dataclass(frozen=True)
class Problem:
    """What all cells of a run share.

    Attributes:
        x: (N, d) float32 features, each of a group or `given`. They are arrays because tensors
            travel to worker processes in shared memory, of which a container has little.
        y: (N,) int64 labels 0..K-1.
        given: columns of x on which all information is conditioned.
        permutations: of the test of independence.
    """

    x: np.ndarray
    y: np.ndarray
    given: tuple[int, ...]
    folds: int
    seed: int
    permutations: int
    runtime: Runtime

    def cross_fit(
        self, stage: Stage, columns: set[int], estimators: list[Estimator] | None = None
    ) -> CrossFit:
        """The cross-fit on some columns of x, which keep their order.

        The estimator of each fold is appended to `estimators`.
        """

        settings = stage.of_one if len(columns) == 1 else stage.of_many

        def build(seed: int) -> Estimator:
            estimator = build_estimator(stage.estimator, self.runtime, seed, settings)
            if estimators is not None:
                estimators.append(estimator)
            return estimator

        x = torch.from_numpy(self.x[:, sorted(columns)])
        return cross_fit(build, x, torch.from_numpy(self.y), folds=self.folds, seed=self.seed)

    def information(self, fit: CrossFit) -> dict[str, float]:
        """I(A; Y) of a fit, with the p-value of the permutation test of independence."""
        return _scores(fit.estimate(), fit.permutation_p_value(self.permutations, self.seed))


@dataclass(frozen=True)
class Whole:
    """Out-of-fold terms of the cross-fits on all features and on the given ones.

    Attributes:
        terms, given_terms: their (N,) out-of-fold terms; zeros if nothing is given.
        importance: (G,) of the groups; see `permutation_importance`.
    """

    terms: np.ndarray
    given_terms: np.ndarray
    importance: np.ndarray


def difference(fit: CrossFit, reference: np.ndarray, *, sign: int = 1) -> dict[str, float]:
    """The mean of the fit's terms minus the (N,) `reference` terms, its interval and p-value.

    The standard error is that of `CrossFit.estimate`, of the differences. With `sign` -1, the
    reference minus the fit's terms.
    """
    terms = sign * (fit.pointwise - torch.from_numpy(reference))
    estimate = dataclasses.replace(fit, pointwise=terms).estimate()
    return _scores(estimate, improvement_p_value(estimate))


def improvement_p_value(estimate: MIEstimate) -> float:
    """One-sided p-value of "the expected difference is at most zero", from the standard error.

    It is below 0.025 exactly where the 95 % interval lies above zero.
    """
    if estimate.standard_error == 0:  # no sample is scored differently
        return float(estimate.value <= 0)
    return float(stats.norm.sf(estimate.value / estimate.standard_error))


def _scores(estimate: MIEstimate, p_value: float) -> dict[str, float]:
    return {"": estimate.value, "_lower": estimate.lower, "_upper": estimate.upper, "_p": p_value}


def _row(feature: str, stage: Stage, started: float, **scores: dict[str, float]) -> dict:
    values = {f"{kind}{end}": value for kind in KINDS for end, value in scores[kind].items()}
    seconds = time.perf_counter() - started
    return {"feature": feature, "estimator": stage.label} | values | {"seconds": seconds}


def permutation_importance(
    problem: Problem, groups: list[Group], fit: CrossFit, estimators: list[Estimator]
) -> np.ndarray:
    """(G,) nats that a fit on all features loses if a group's features are permuted (Breiman 2001).

    They are permuted together, among at most PERMUTED test samples of each fold. No estimator is
    trained again, so this finds features whose parts in an interaction only this estimator sees.
    """
    generator = torch.Generator().manual_seed(problem.seed)
    losses = np.zeros(len(groups))
    for fold, estimator in enumerate(estimators):
        rows = (fit.folds == fold).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)[:PERMUTED]]
        order = torch.randperm(len(rows), generator=generator)
        x, labels = torch.from_numpy(problem.x)[rows], fit.labels[rows]
        for number, group in enumerate(groups):
            permuted, columns = x.clone(), list(group.features)
            permuted[:, columns] = x[order][:, columns]
            ratio = estimator.log_ratio(permuted).double()
            ratio = pointwise_mutual_information(ratio, fit.log_prior)
            loss = select_label(fit.log_ratio[rows] - ratio, labels).mean()
            losses[number] += loss.item() / len(estimators)
    return losses


@one_thread()
def rank_all(problem: Problem, stage: Stage, groups: list[Group]) -> tuple[dict, Whole]:
    """The row of all features, I(X;Y) and I(X;Y | given), and the terms that `rank_group` takes."""
    started, estimators = time.perf_counter(), []
    given_terms = np.zeros(len(problem.y))
    if problem.given:
        given_terms = problem.cross_fit(stage, set(problem.given)).pointwise.numpy()
    fit = problem.cross_fit(stage, set(range(problem.x.shape[1])), estimators)
    alone = problem.information(fit)
    conditional = difference(fit, given_terms) if problem.given else alone
    importance = permutation_importance(problem, groups, fit, estimators)
    row = _row(ALL, stage, started, alone=alone, conditional=conditional)
    return row, Whole(fit.pointwise.numpy(), given_terms, importance)


@one_thread()
def rank_group(
    problem: Problem, stage: Stage, key: str, group: Group, whole: Whole
) -> tuple[dict, None]:
    """The row of a group: its information alone (with those given), and given all others."""
    started, columns = time.perf_counter(), set(range(problem.x.shape[1]))
    fit = problem.cross_fit(stage, {*problem.given, *group.features})
    alone = difference(fit, whole.given_terms) if problem.given else problem.information(fit)
    rest = problem.cross_fit(stage, columns - {*group.features})
    conditional = difference(rest, whole.terms, sign=-1)
    return _row(key, stage, started, alone=alone, conditional=conditional), None


def rank_groups(
    problem: Problem,
    groups: list[Group],
    stages: list[Stage],
    *,
    leaders: int,
    folder: Path,
    **computing,
) -> pd.DataFrame:
    """One row per group, those of all features last; what `folder` holds is not computed again.

    The first stage ranks all groups. The second, if there is one, replaces the rows of the
    `leaders`: the groups with the best rank in one of information alone or given the rest by the
    first stage, or importance in the second stage's fit on all features.

    `computing` holds num_workers and cluster of `run_jobs`.
    """
    paths = {stage.label: folder / f"all-{stage.label}.npz" for stage in stages}
    # Names in a table may look like numbers or missing values; with a number before them none does.
    names = [f"#{i} {group.name}" for i, group in enumerate(groups, start=1)]
    keys = ["".join(c if c.isprintable() else "?" for c in name) for name in names]
    text = {"feature": [*keys, ALL], "estimator": paths}
    results = ResultsFile(folder / "results.csv", COLUMNS, KEY, text=text)

    def compute(jobs: dict[tuple[str, str], tuple]) -> None:
        """Adds the rows of jobs by key, and writes `Whole`, unless an earlier run has."""
        missing = {
            key: job
            for key, job in jobs.items()
            if key not in results or (key[0] == ALL and not paths[key[1]].exists())
        }
        for (feature, label), (row, whole) in run_jobs(
            _compute,
            [(key, *job) for key, job in missing.items()],
            names=[" ".join(key) for key in missing],
            runtime=problem.runtime,
            **computing,
        ):
            if whole is not None:
                save_arrays(paths[label], **vars(whole))
            if (feature, label) not in results:
                results.add([row])

    def rows_of(stage: Stage, features: list[str]) -> pd.DataFrame:
        rows = results.select([(feature, stage.label) for feature in features])
        return rows.set_index("feature", drop=False)

    def jobs_of(stage: Stage, features: list[str], whole: Whole) -> dict[tuple[str, str], tuple]:
        pairs = [(key, group) for key, group in zip(keys, groups, strict=True) if key in features]
        return {
            (key, stage.label): (rank_group, problem, stage, key, group, whole)
            for key, group in pairs
        }

    first, *second = stages
    # Importance that is not used now is for a run that resumes with fewer leaders.
    measured = groups if leaders >= len(groups) else []
    compute({(ALL, first.label): (rank_all, problem, first, measured)})
    # The fits on all features by the second stage take longest, and come first.
    jobs = {(ALL, stage.label): (rank_all, problem, stage, groups) for stage in second}
    compute(jobs | jobs_of(first, keys, _read_whole(paths[first.label], len(problem.y))))
    rows = rows_of(first, keys)
    for stage in second:
        whole = _read_whole(paths[stage.label], len(problem.y), len(groups))
        leading_keys = list(leading(rows, whole.importance)[:leaders])
        compute(jobs_of(stage, leading_keys, whole))
        rows.loc[leading_keys] = rows_of(stage, leading_keys)
    rows = pd.concat([rows, rows_of(stages[-1], [ALL])]).reset_index(drop=True)
    return rows.assign(feature=[*(group.name for group in groups), ALL])


def _compute(key: tuple[str, str], function: Callable, *arguments) -> tuple:
    return key, function(*arguments)


def _read_whole(path: Path, samples: int, groups: int | None = None) -> Whole:
    """UserError for arrays of other shapes; the importance may have any if `groups` is None."""
    arrays = read_arrays(path)
    shapes = {name: values.shape for name, values in arrays.items()}
    importance = shapes.get("importance") if groups is None else (groups,)
    if shapes != {"terms": (samples,), "given_terms": (samples,), "importance": importance}:
        raise damaged_file(path)
    return Whole(**arrays)


def leading(rows: pd.DataFrame, importance: np.ndarray) -> pd.Index:
    """The index of the rows, those with the best rank in either kind or in importance first.

    Of equal ranks the more important group comes first.
    """
    values = rows[list(KINDS)].astype(float).assign(importance=importance)
    ranks = values.rank(ascending=False, method="first")
    order = np.lexsort((ranks["importance"], ranks.min(axis=1)))
    return rows.index[order]
