"""Information alone and given the rest: exact values, the chain rule, p-values, stages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mi_common.runtime import Runtime
from mi_estimator import ranking
from mi_estimator.estimators.baselines import SklearnMI
from mi_estimator.estimators.crossfit import cross_fit
from mi_estimator.estimators.registry import Settings
from mi_estimator.feature_groups import Group
from mi_estimator.ranking import ALL, Problem, Stage, leading, rank_groups, stages_of
from mi_estimator.tasks.gaussians import GaussianClasses
from mi_estimator.tasks.vectors import NoisyXor

UNCALIBRATED = Settings(val_fraction=0.0)  # lda, qda and boosting train on all samples
Rank = Callable[..., pd.DataFrame]


@pytest.fixture
def rank(tmp_path: Path, cpu: Runtime) -> Rank:
    """Ranks columns of x, or groups of them, into a new folder."""

    def run(x, y, *estimators: str, groups=None, given=(), leaders=0, folder="out", **options):
        columns = [column for column in range(x.shape[1]) if column not in given]
        groups = groups or [(column,) for column in columns]
        options = {"folds": 5, "seed": 0, "permutations": 99} | options
        problem = Problem(np.float32(x), np.int64(y), tuple(given), runtime=cpu, **options)
        stages = [Stage(name, name, UNCALIBRATED, UNCALIBRATED) for name in estimators]
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = rank_groups(
            problem,
            [Group("".join(map(str, columns)), columns) for columns in groups],
            stages,
            leaders=leaders,
            folder=tmp_path / folder,
            num_workers=0,
        )
        return rows.set_index("feature")

    return run


def gaussian_pair(n: int, shift, covariance, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of two equal classes with means 0 and `shift` and one covariance."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    noise = rng.multivariate_normal(np.zeros(len(shift)), covariance, size=n)
    return noise + y[:, None] * np.array(shift), y


def exact_information(shift, covariance, columns: list[int]) -> float:
    """I(X;Y) of some features of `gaussian_pair`, from their Mahalanobis distance."""
    shift, covariance = np.array(shift)[columns], np.array(covariance)[np.ix_(columns, columns)]
    distance = np.sqrt(shift @ np.linalg.solve(covariance, shift))
    return GaussianClasses(1, (1, 1), (0.0, float(distance))).mutual_information()[0]


# The second feature carries nothing alone, but tells the noise of the first; the fourth is noise.
SHIFT = (1.0, 0.0, 0.7, 0.0)
COVARIANCE = np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, 0.3], [0, 0, 0.3, 2.0]])


def assert_close(row: pd.Series, kind: str, truth: float) -> None:
    """Within three standard errors, and one thousandth for the bias of 4,000 samples."""
    error = (row[f"{kind}_upper"] - row[f"{kind}_lower"]) / (2 * 1.959964)
    assert 0 < error < 0.015
    assert abs(row[kind] - truth) < 3 * error + 0.001, (row.name, kind, truth)


def test_gaussian_classes_have_their_exact_information(rank):
    rows = rank(*gaussian_pair(4000, SHIFT, COVARIANCE), "lda")
    whole = exact_information(SHIFT, COVARIANCE, [0, 1, 2, 3])
    assert_close(rows.loc[ALL], "alone", whole)
    for j in range(4):
        rest = [i for i in range(4) if i != j]
        assert_close(rows.loc[str(j)], "alone", exact_information(SHIFT, COVARIANCE, [j]))
        given_rest = whole - exact_information(SHIFT, COVARIANCE, rest)
        assert_close(rows.loc[str(j)], "conditional", given_rest)
    assert rows["alone_p"].lt(0.05).tolist() == [True, False, True, False, True]
    assert rows["conditional_p"][:3].lt(1e-6).all() and rows["conditional"]["1"] > 0.1


def test_information_given_known_features_is_exact(rank):
    """In one row what 1 and 2 add to 0 and 3 each, and what each adds to all others."""
    rows = rank(*gaussian_pair(4000, SHIFT, COVARIANCE), "lda", given=[0, 3])
    known = exact_information(SHIFT, COVARIANCE, [0, 3])
    whole = exact_information(SHIFT, COVARIANCE, [0, 1, 2, 3])
    assert list(rows.index) == ["1", "2", ALL]
    assert_close(rows.loc[ALL], "alone", whole)
    assert_close(rows.loc[ALL], "conditional", whole - known)
    for j, other in ((1, 2), (2, 1)):
        added = exact_information(SHIFT, COVARIANCE, [0, 3, j])
        assert_close(rows.loc[str(j)], "alone", added - known)
        without = exact_information(SHIFT, COVARIANCE, [0, 3, other])
        assert_close(rows.loc[str(j)], "conditional", whole - without)


def test_each_half_of_a_parity_carries_all_given_the_other(rank):
    task = NoisyXor(0.1)
    x, y = task.sample(4000, torch.Generator().manual_seed(0))
    noise = np.random.default_rng(1).integers(2, size=4000)
    x = np.column_stack((x > 0, noise))
    rows = rank(x, y.numpy(), "gradient-boosting")
    truth = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert task.mutual_information()[0] == pytest.approx(truth)
    for name in ("0", "1"):
        assert_close(rows.loc[name], "conditional", truth)
        assert abs(rows.loc[name, "alone"]) < 0.002
    assert rows.loc["2", "conditional"] < 0.002 and rows.loc["2", "conditional_p"] > 0.05


def test_a_copy_adds_nothing(rank):
    x, y = gaussian_pair(400, SHIFT, COVARIANCE)
    rows = rank(np.column_stack((x[:, 0], x)), y, "gradient-boosting")
    for name in ("0", "1"):
        assert rows.loc[name, "conditional"] == 0 and rows.loc[name, "conditional_p"] == 1
        assert rows.loc[name, "alone"] == rows.loc["0", "alone"] > 0.05
        assert rows.loc[name, "alone_p"] == 0.01
    assert rows.loc["2", "conditional"] > 0.05


@pytest.mark.parametrize("estimator", ["lda", "gradient-boosting"])
def test_the_chain_rule_holds_exactly(rank, estimator):
    """I(0, 1, 2, 3) = I(0, 3) + I(1 | 0, 3) + I(2 | 0, 1, 3)."""
    x, y = gaussian_pair(300, SHIFT, COVARIANCE)
    pairs = rank(x, y, estimator, groups=[(0, 3), (1, 2)])
    total = pairs.loc[ALL, "alone"]
    for first, second in (("03", "12"), ("12", "03")):
        parts = pairs.loc[first, "alone"] + pairs.loc[second, "conditional"]
        assert parts == pytest.approx(total, abs=1e-12)
    known = rank(x, y, estimator, given=[0, 3], folder="known")
    assert known.loc[ALL, "alone"] == total
    assert known.loc[ALL, "conditional"] == pytest.approx(pairs.loc["12", "conditional"], abs=1e-12)
    for first, second in (("1", "2"), ("2", "1")):
        parts = known.loc[first, "alone"] + known.loc[second, "conditional"]
        assert parts == pytest.approx(known.loc[ALL, "conditional"], abs=1e-12)


def test_a_row_is_the_difference_of_two_cross_fits(rank):
    x, y = gaussian_pair(203, SHIFT, COVARIANCE)
    row = rank(x, y, "qda", folds=4, seed=3).loc["1"]

    def fit(columns: list[int]):
        inputs = torch.from_numpy(np.float32(x[:, columns]))
        build = lambda seed: SklearnMI("qda", seed=seed)  # noqa: E731
        return cross_fit(build, inputs, torch.from_numpy(y), folds=4, seed=3)

    alone, whole, rest = fit([1]), fit([0, 1, 2, 3]), fit([0, 2, 3])
    estimate = alone.estimate()
    values = [estimate.value, estimate.lower, estimate.upper, alone.permutation_p_value(99, 3)]
    assert row[["alone", "alone_lower", "alone_upper", "alone_p"]].tolist() == values
    terms = (whole.pointwise - rest.pointwise).numpy()
    by_fold = [terms[whole.folds == fold].mean() for fold in range(4)]
    error = max(terms.std(ddof=1) / 203**0.5, np.std(by_fold, ddof=1) / 2)
    expected = [terms.mean(), terms.mean() - 1.959964 * error, terms.mean() + 1.959964 * error]
    names = ["conditional", "conditional_lower", "conditional_upper"]
    assert row[names].tolist() == pytest.approx(expected, abs=1e-7)
    assert (row["conditional_lower"] > 0) == (row["conditional_p"] < 0.025)


def test_the_second_estimator_replaces_the_rows_of_the_leaders(rank):
    """LDA finds the last feature; QDA also the first two, whose correlation is the label."""
    rng, y = np.random.default_rng(0), np.arange(600) % 2
    x = rng.normal(size=(600, 5))
    x[:, 1] = 0.6 * x[:, 1] + (1.6 * y - 0.8) * x[:, 0]
    x[:, 4] += y
    first = rank(x, y, "lda", folder="first")
    second = rank(x, y, "qda", folder="second")
    both = rank(x, y, "lda", "qda", leaders=3)
    assert first.loc["0":"1", ["alone", "conditional"]].max(axis=None) < 0.02
    leaders = ("0", "1", "4")
    assert second.loc[list(leaders), "conditional"].min() > 0.05
    for name in both.index:
        expected = (second if name in (*leaders, ALL) else first).loc[name].drop("seconds")
        assert both.loc[name].drop("seconds").equals(expected), name


def test_leaders_lead_in_one_of_three_values():
    rows = pd.DataFrame({"alone": [4, 1, 1, 3, 0], "conditional": [0.5, 0, 9, 3, 1]}, list("abcde"))
    assert leading(rows, np.array([0, 1, 2, 0, 5])).tolist() == ["e", "c", "a", "d", "b"]


def test_auto_has_a_fast_stage_unless_its_candidates_are_fast():
    settings = Settings(epochs=7)
    fast, complete = stages_of("auto", settings, 3)
    assert (complete.label, complete.of_many, complete.of_one) == ("auto", settings, fast.of_many)
    assert fast.label == "auto-fast" and fast.of_one == fast.of_many
    assert fast.of_many.epochs == 7 and not fast.of_many.select_features
    left_out = set(settings.candidates) - set(fast.of_many.candidates)
    assert left_out == {"pc-softmax", "extra-trees"}
    assert stages_of("auto", settings, 0) == [fast]
    for candidates in (("lda", "qda"), ("pc-softmax",)):
        one_kind = Settings(candidates=candidates)
        assert stages_of("auto", one_kind, 3) == [Stage("auto", "auto", one_kind, one_kind)]
    assert stages_of("lda", settings, 3) == [Stage("lda", "lda", settings, settings)]


def test_importance_is_the_loss_by_permuted_features(cpu):
    """QDA where the label is the sign of a correlation; a pair is permuted together."""
    rng, y = np.random.default_rng(0), np.arange(2000) % 2
    x = rng.normal(size=(2000, 4))
    x[:, 1] = 0.6 * x[:, 1] + (1.6 * y - 0.8) * x[:, 0]
    problem = Problem(np.float32(x), y, (), folds=4, seed=0, permutations=9, runtime=cpu)
    groups = [Group("0", (0,)), Group("01", (0, 1)), Group("2", (2,)), Group("3", (3,))]
    row, whole = ranking.rank_all(problem, Stage("qda", "qda", UNCALIBRATED, UNCALIBRATED), groups)
    # The log odds are 2 r a b / (1 - r^2) for r = 0.8, the label of permuted samples is random.
    a, b, noise = rng.normal(size=(3, 10**6))
    for other, importance in zip((b, 0.8 * a + 0.6 * noise), whole.importance, strict=False):
        odds = 1.6 / 0.36 * a * other * np.sign(b)
        loss = row["alone"] - np.log(2) + np.logaddexp(0, odds).mean()
        assert importance == pytest.approx(loss, rel=0.1) and loss > 1
    assert abs(whole.importance[2:]).max() < 0.02


def test_what_the_folder_holds_is_not_computed_again(rank, tmp_path, monkeypatch):
    x, y = gaussian_pair(120, SHIFT, COVARIANCE)
    rows = rank(x, y, "lda")
    results = tmp_path / "out/results.csv"
    content = results.read_text().splitlines(keepends=True)
    calls, original = [], Problem.cross_fit

    def recorded(problem, stage, columns, *rest):
        calls.append(sorted(columns))
        return original(problem, stage, columns, *rest)

    monkeypatch.setattr(ranking.Problem, "cross_fit", recorded)
    results.write_text("".join(content[:-1]))
    pd.testing.assert_frame_equal(
        rank(x, y, "lda").drop(columns="seconds"), rows.drop(columns="seconds")
    )
    assert calls == [[3], [0, 1, 2]]
    calls.clear()
    (tmp_path / "out/all-lda.npz").unlink()
    pd.testing.assert_frame_equal(
        rank(x, y, "lda").drop(columns="seconds"), rows.drop(columns="seconds")
    )
    assert calls == [[0, 1, 2, 3]]


@pytest.mark.slow
def test_intervals_cover_and_noise_is_significant_in_at_most_five_percent(rank):
    """200 data sets: what an informative feature and noise add to each other, as rest or given."""
    truth = exact_information((1.0, 0.0), np.eye(2), [0])
    significant, covered = np.zeros(2, dtype=int), 0
    for seed in range(200):
        x, y = gaussian_pair(200, (1.0, 0.0), np.eye(2), seed)
        options = {"permutations": 1, "seed": seed}
        rows = rank(x, y, "lda", folder=f"rest {seed}", **options)
        given = rank(x, y, "lda", folder=f"given {seed}", given=[0], **options).loc["1"]
        significant += [rows.loc["1", "conditional_p"] < 0.05, given["alone_p"] < 0.05]
        first = rows.loc["0"]
        covered += first["conditional_lower"] < truth < first["conditional_upper"]
    assert (significant <= 10).all() and covered >= 184, (significant, covered)


@pytest.mark.slow
def test_auto_finds_a_parity_among_noise(tmp_path, cpu):
    """Nothing alone, log 2 - H_b(0.1) given the other, less what 2,000 samples leave unlearned."""
    task = NoisyXor(0.1)
    x, y = task.sample(2000, torch.Generator().manual_seed(0))
    x = torch.cat((x, torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))), dim=1)
    problem = Problem(x.numpy(), y.numpy(), (), folds=5, seed=0, permutations=99, runtime=cpu)
    groups = [Group(f"{i}", (i,)) for i in range(5)]
    candidates = ("pc-softmax", "gradient-boosting", "qda")
    stages = stages_of("auto", Settings(members=1, candidates=candidates), 2)
    # The third leader is that of the values alone, all zero.
    options = {"leaders": 3, "folder": tmp_path, "num_workers": 0}
    rows = rank_groups(problem, groups, stages, **options).set_index("feature")
    truth, _ = task.mutual_information()
    assert rows["estimator"].eq("auto").sum() == 4
    assert rows.loc[["0", "1", ALL], "estimator"].eq("auto").all()
    for name in ("0", "1"):
        row = rows.loc[name]
        assert truth - 0.03 < row["conditional_upper"] and row["conditional_lower"] < truth
        assert row["conditional"] == pytest.approx(truth, abs=0.05)
    assert rows.loc["0":"4", "alone"].abs().max() < 0.005
    assert rows.loc["2":"4", "conditional"].abs().max() < 0.02
