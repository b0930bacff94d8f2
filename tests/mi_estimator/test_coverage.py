"""The simulation of coverage: shares by hand, what is to be covered, a tiny run, wrong flags."""

import pandas as pd
import pytest
import torch
from torch import Tensor

from mi_common.information import select_label
from mi_estimator import coverage as entry
from mi_estimator import replicates
from mi_estimator.estimators.baselines import SklearnMI
from mi_estimator.estimators.crossfit import cross_fit
from mi_estimator.estimators.registry import Settings

NAMES = ["estimate", "lower", "upper", "expected_value", "p_value"]
ROWS = {
    "independent-k2": [
        (0.00, -0.10, 0.10, 0.05, 0.05),
        (0.10, 0.05, 0.15, 0.00, 0.06),
        (0.02, -0.01, 0.05, -0.01, 0.50),  # just covered
        (-0.04, -0.08, 0.00, 0.01, 1.00),
    ],
    "gaussian-d2": [(1.20, 1.10, 1.31, 1.11, 0.5), (1.40, 1.35, 1.45, 1.45, 0.5)],
}


def made_by_hand() -> pd.DataFrame:
    rows = [
        {"task": task, "replicate": number} | dict(zip(NAMES, values, strict=True))
        for task, lines in ROWS.items()
        for number, values in enumerate(lines)
    ]
    return pd.DataFrame(rows)


def test_shares_by_hand():
    table = replicates.coverage(made_by_hand()).set_index("task")
    assert list(table.index) == list(ROWS)  # in the order of the rows
    expected = {
        "replicates": 4,
        "truth": 0,
        "mean_estimate": 0.02,
        "spread": (0.0104 / 3) ** 0.5,
        "mean_half_width": 0.055,
        "covered": 0.5,
        "covered_low": 0.067586,  # Clopper and Pearson's for 2 of 4
        "covered_high": 0.932414,
        "rejected": 0.25,
        "rejected_low": 0.006309,  # 1 of 4
        "rejected_high": 0.805880,
        "covers_mean_estimate": 0.5,
        "above_truth": 0.25,
        "below_truth": 0.0,
    }
    line = table.loc["independent-k2"]
    assert list(table.columns) == list(expected)
    assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    line = table.loc["gaussian-d2"]
    assert line["truth"] == pytest.approx(1.3003, abs=1e-4)
    found = [line[f"{share}{end}"] for share in ("covered", "rejected") for end in ("", "_low")]
    assert found == pytest.approx([1, 0.025**0.5, 0, 0])
    assert line["covered_high"] == 1
    assert line["rejected_high"] == pytest.approx(1 - 0.025**0.5)
    assert (line["covers_mean_estimate"], line["above_truth"]) == (0.5, 0.5)


class Oracle:
    """The exact log ratio of a task, raised by a constant."""

    def __init__(self, name: str, shift: float = 0.0):
        self.task, self.shift = replicates.TASKS[name], shift

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        terms = select_label(self.task.log_ratio(x), y)
        return terms + self.shift


@pytest.mark.parametrize("name", replicates.TASKS)
def test_the_oracle_is_to_cover_i_and_shifted_ones_their_mean(name):
    truth, _ = replicates.TASKS[name].mutual_information()
    assert replicates.expected_value([Oracle(name)], name, 1000) == pytest.approx(truth, abs=1e-12)
    shifted = [Oracle(name, shift) for shift in (0.1, -0.4, 0.0)]
    expected = pytest.approx(truth - 0.1, abs=1e-12)
    assert replicates.expected_value(shifted, name, 1000) == expected


def test_what_is_to_be_covered_is_the_score_on_endless_samples():
    """Of an estimator that is off: the mean over many more samples, and others."""
    x, y = replicates.TASKS["gaussian-d2"].sample(60, torch.Generator().manual_seed(5))
    estimator = SklearnMI("qda").fit(x, y)
    many = replicates.TASKS["gaussian-d2"].sample(1_000_000, torch.Generator().manual_seed(6))
    estimate = estimator.estimate(*many)
    error = (estimate.upper - estimate.lower) / 2 / 1.959964
    found = replicates.expected_value([estimator], "gaussian-d2")
    assert found == pytest.approx(estimate.value, abs=0.005 + 3 * error)
    assert found < replicates.TASKS["gaussian-d2"].mutual_information()[0] - 0.03


TINY = ["--samples", 100, "--permutations", 19, "--estimator", "lda", "--num-workers", 0]


@pytest.fixture
def run(tmp_path):
    def main(*flags) -> tuple[pd.DataFrame, pd.DataFrame]:
        words = [*TINY, "--device", "cpu", "--output-dir", tmp_path / "out", *flags]
        entry.main([str(word) for word in words])
        files = [tmp_path / f"out/{name}.csv" for name in ("coverage", "replicates")]
        return tuple(pd.read_csv(path, engine="python") for path in files)

    return main


TASKS = ("--tasks", "independent-k2", "gaussian-d2")


def test_a_tiny_run_writes_the_rows_asked_for(run, capsys):
    table, rows = run(*TASKS, "--replicates", 3)
    assert list(rows.columns) == ["task", "replicate", *NAMES]
    keys = [(task, number) for task in TASKS[1:] for number in range(3)]
    assert list(rows[["task", "replicate"]].itertuples(index=False, name=None)) == keys
    assert table["task"].tolist() == list(TASKS[1:])
    assert table["replicates"].tolist() == [3, 3]
    pd.testing.assert_frame_equal(replicates.coverage(rows), table, check_dtype=False)
    assert (rows["lower"] < rows["estimate"]).all() and (rows["estimate"] < rows["upper"]).all()
    steps = rows["p_value"] * 20
    assert steps.between(1, 20).all() and steps.tolist() == pytest.approx(steps.round().tolist())
    gaussian = rows[rows["task"] == "gaussian-d2"]
    assert (gaussian["p_value"] == 1 / 20).all() and gaussian["expected_value"].between(
        0.9, 1.3
    ).all()
    assert rows["estimate"].nunique() == 6
    out = capsys.readouterr().out
    assert "cpu" in out and "| independent-k2 | 3 |" in out and "replicates.csv" in out


def test_a_replicate_is_the_estimate_of_its_own_samples(cpu):
    (row,) = replicates.run_replicate("gaussian-d2", 2, "lda", 80, 19, cpu)
    x, y = replicates.TASKS["gaussian-d2"].sample(80, torch.Generator().manual_seed(2000))
    made = []

    def build(seed: int) -> SklearnMI:
        made.append(SklearnMI("lda", seed=seed, val_fraction=Settings().val_fraction))
        return made[-1]

    found = cross_fit(build, x, y, folds=5, seed=2)
    estimate = found.estimate()
    assert (row["task"], row["replicate"]) == ("gaussian-d2", 2)
    assert [row[name] for name in NAMES[:3]] == [estimate.value, estimate.lower, estimate.upper]
    assert row["expected_value"] == replicates.expected_value(made, "gaussian-d2")
    assert row["p_value"] == found.permutation_p_value(19, 2)


def test_a_run_goes_on_with_more_replicates_and_tasks(run, monkeypatch):
    done, original = [], replicates.run_replicate

    def recorded(name: str, replicate: int, *rest) -> list[dict]:
        done.append((name, replicate))
        return original(name, replicate, *rest)

    monkeypatch.setattr(replicates, "run_replicate", recorded)
    _, first = run("--tasks", "independent-k2", "--replicates", 2)
    assert len(done) == 2
    table, rows = run(*TASKS, "--replicates", 3, "--resume")
    assert sorted(done) == sorted((task, number) for task in TASKS[1:] for number in range(3))
    assert table["replicates"].tolist() == [3, 3]
    pd.testing.assert_frame_equal(rows[:2], first)


def test_networks_are_what_is_simulated_by_default(cpu):
    args = entry.get_parser().parse_args([])
    assert (args.estimator, args.replicates, args.tasks) == (
        "pc-softmax",
        300,
        list(replicates.TASKS)[:4],
    )
    (row,) = replicates.run_replicate("independent-k2", 0, "pc-softmax", 60, 19, cpu)
    assert row["lower"] < row["upper"] and -0.5 < row["expected_value"] < 0.02


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--tasks", "gaussian-d3"], ["--tasks", "'gaussian-d3'", "independent-k10"]),
        (["--permutations", 0], ["--permutations", "'0'"]),
        (["--estimator", "mine"], ["--estimator", "'mine'", "pc-softmax"]),
        (["--seed", 1], ["--seed"]),  # the number of a replicate is its seed
        (["--tasks", "gaussian-d2", "--samples", 99], ["--samples 99: at least 100"]),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(tmp_path, user_error, flags, parts):
    line = user_error(entry.main, [*TINY, "--output-dir", tmp_path / "out", *flags])
    assert all(part in line for part in parts)
    assert not (tmp_path / "out").exists()
