"""Entries of mi_estimator on the GPU: the numbers of the CPU, but for rounding.

A handful of epochs: rounding errors of 1e-6 a layer then reach some 1e-5 nats. Another order of
samples or another start would move an estimate by 1e-2 or more.
"""

import json

import numpy as np
import pandas as pd
import pytest

from mi_estimator.benchmark import main as benchmark
from mi_estimator.coverage import main as coverage
from mi_estimator.estimate import main as estimate
from mi_estimator.rank import main as rank

pytestmark = pytest.mark.gpu
FROM_NETWORKS = ("pc-softmax", "softmax-log-k", "smile")


@pytest.mark.parametrize(
    "words",
    [
        ["--val-fraction", 0.15],
        ["--estimator", "mine"],
        ["--estimator", "infonce", "--val-fraction", 0],
        ["--dataset", "digits", "--max-samples", 300, "--permutations", 19, "--lr", 2e-4],
    ],
    ids=["validation set", "mine", "infonce", "images"],
)
def test_estimate(run_on_both, table, words):
    source = [] if "--dataset" in words else [table, "--label", "kind"]
    shared = ["--folds", 2, "--epochs", 4, "--members", 2, "--batch-size", 30]
    folders = run_on_both(estimate, *source, *shared, *words)
    expected, found = (json.loads((each / "estimate.json").read_text()) for each in folders)
    for name in ("mutual_information", "lower", "upper", "training_value", "accuracy", "p_value"):
        assert found[name] == pytest.approx(expected[name], abs=1e-3), name
    assert abs(expected["mutual_information"]) > 0.05
    rows, gpu_rows = (pd.read_csv(each / "pmi.csv") for each in folders)
    np.testing.assert_allclose(gpu_rows["pmi_nats"], rows["pmi_nats"], atol=5e-3)
    assert (gpu_rows["fold"] == rows["fold"]).all()


def test_benchmark(run_on_both):
    words = ["--suite", "small-sample", "--n-test", 500, "--epochs", 2, "--members", 1]
    words += ["--estimators", "oracle", "lda", "ross", *FROM_NETWORKS, "--num-workers", 0]
    rows, gpu_rows = (pd.read_csv(each / "results.csv") for each in run_on_both(benchmark, *words))
    key = ["task", "estimator", "seed", "status"]
    assert gpu_rows[key].to_dict() == rows[key].to_dict()
    assert set(rows["status"]) == {"ok"}
    apart = (gpu_rows["estimate"] - rows["estimate"]).abs()
    by_network = rows["estimator"].isin(FROM_NETWORKS)
    assert apart[by_network].max() < 5e-3
    assert apart[~by_network].max() == 0


def test_coverage(run_on_both):
    words = ["--tasks", "independent-k2", "--replicates", 1, "--samples", 60]
    folders = run_on_both(coverage, *words, "--permutations", 9, "--num-workers", 0)
    rows, gpu_rows = (pd.read_csv(folder / "replicates.csv") for folder in folders)
    for name in ("estimate", "lower", "upper", "expected_value"):
        assert gpu_rows[name].item() == pytest.approx(rows[name].item(), abs=1e-3), name


def test_rank(run_on_both, table):
    words = ["--estimator", "pc-softmax", "--folds", 2, "--epochs", 4, "--members", 2]
    words += ["--batch-size", 30, "--permutations", 19, "--group", "rest=b,c,d"]
    rows, gpu_rows = (
        pd.read_csv(each / "rank.csv").set_index("feature")
        for each in run_on_both(rank, table, "--label", "kind", *words)
    )
    assert rows.loc["a", "alone"] > 0.05
    nats = [f"{kind}{end}" for kind in ("alone", "conditional") for end in ("", "_lower", "_upper")]
    np.testing.assert_allclose(gpu_rows.loc[rows.index, nats], rows[nats], atol=1e-3)
