"""The timings run: small sizes here, real ones in `python -m scripts.speed`."""

import contextlib
import re
from types import SimpleNamespace

import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_common.runtime import setup
from scripts import page_tables, plain_timings, timings
from scripts.speed import main


def test_the_parts_that_need_no_data_run():
    head = timings.time_head(timings.torch.ones(200, timings.FEATURES).half(), 1, setup("cpu"))
    plain, fast = timings.time_boxes(64, num_workers=1, count=10)
    assert head > 0 and plain[1] > fast[1] > 0
    assert timings.time_file(200) > 0


def test_throughput_counts_cpu_seconds_of_workers_too():
    what, seconds, note = timings.throughput("any", "note", 10, timings.time_evaluation, 10, 1)
    cpu, images, memory = map(float, re.findall(r"\d+\.?\d*(?:e[+-]\d+)?", note))
    assert what == "any" and seconds > 0 and 0.1 < memory < 4
    assert images == pytest.approx(10 / cpu, rel=0.02)
    with timings.clocks() as spent:
        sum(i * i for i in range(10**6))
    assert 0.5 * spent[1] < spent[0] and spent[1] > 0.01


def test_features_are_timed_beside_the_forward_pass():
    for run in (timings.time_forward, timings.time_features):
        seconds, cpu_seconds = run(16)
        assert seconds > 0 and cpu_seconds > 0.05


def test_errors_are_timed_in_their_own_processes():
    rows = timings.time_errors(repeats=1)
    assert len(rows) == 2 and all(0 < seconds < 60 for _, seconds, _ in rows)
    with pytest.raises(UserError, match="status 2, not 0"):
        timings.time_command("mi_estimator.estimate", ["missing.csv"])


@pytest.mark.slow
def test_an_estimate_is_timed_with_its_memory():
    what, seconds, note = timings.time_estimate("cpu", 4000, ("--estimator", "lda"))
    estimate, exact, memory = map(float, re.findall(r"-?\d+\.\d+", note))
    assert "4,000 rows" in what and 0 < seconds < 600 and 0.1 < memory < 4
    assert estimate == pytest.approx(exact, abs=0.03)


def test_without_mnist_nothing_is_written(tmp_path, user_error):
    words = ["--parts", "mnist", "--data-dir", tmp_path, "--output-dir", tmp_path / "out"]
    assert "scripts.download_data mnist" in user_error(main, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_papers_run_is_timed_in_stages(pytestconfig):
    rows = timings.time_mnist(pytestconfig.rootpath / "data", "cpu", "fp32", repeats=1)
    assert len(rows) == 5 and all(seconds > 0 for _, seconds, _ in rows)
    assert "2,064 steps; balanced accuracy 9" in rows[-1][2]


@pytest.mark.parametrize("stage", ["head", "boxes 64"])
def test_a_stage_is_timed_beside_its_plain_version(stage, monkeypatch, tmp_path):
    monkeypatch.setattr(timings, "time_features", lambda images: (60.0, 50.0))
    monkeypatch.setattr(plain_timings, "MAPS", 4)
    row = plain_timings.measure(stage, tmp_path, repeats=1)
    assert row["plain"] > row["cpu_seconds"] > 0 and (row["plain"] > 50) == (stage == "head")
    assert row["ratio"] == pytest.approx(row["plain"] / row["cpu_seconds"])
    assert 0.1 < row["memory_gb"] < 8


def test_stages_are_written_one_by_one_with_the_bound_of_the_machine(tmp_path, monkeypatch):
    measured = {"cpu_seconds": 0.5, "memory_gb": 1.25}
    rows = {"matrices": measured, "boxes 64": measured | {"plain": 2.0, "ratio": 3.9}}
    pool = SimpleNamespace(
        submit=lambda run, stage, *_: SimpleNamespace(result=lambda: rows[stage])
    )
    monkeypatch.setattr(plain_timings, "worker_pool", lambda _: contextlib.nullcontext(pool))
    plain_timings.write_stages(["matrices", "boxes 64"], tmp_path, 1, tmp_path)
    shown = page_tables.cpu_speed(pd.read_csv(tmp_path / "plain.csv"))
    assert (
        shown["note"][0] == "the bound of this machine: 34 GFLOP/s"
    )  # 2 x 2048^3 in half a second
    assert shown["plain"].tolist() == ["", "2"] and shown["ratio"].tolist() == ["", "3.90"]
    assert shown["memory, GB"].tolist() == ["1.25", "1.25"]
