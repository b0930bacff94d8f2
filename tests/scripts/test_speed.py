"""The timings run: small sizes here, real ones in `python -m scripts.speed`."""

import contextlib
import itertools
import re
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from mi_common.errors import UserError
from scripts import page_tables, plain_timings, timings
from scripts.speed import main


def test_an_epoch_over_a_memory_mapped_file_is_timed_in_a_process_of_its_own():
    row = timings.alone("any", "note", timings.time_file, 200)
    assert row["seconds"] > 0 and row["cpu_seconds"] > 0 and 0.1 < row["memory_gb"] < 4


@pytest.mark.parametrize("child", [True, False])
def test_clocks_count_cpu_seconds_of_this_process_and_of_its_children(child):
    work = "sum(i * i for i in range(3_000_000))"
    with timings.clocks() as spent:
        if child:
            subprocess.run([sys.executable, "-c", work], check=True)
        else:
            exec(work)
    assert 0.05 < spent[1] < spent[0] + 0.1


def test_features_are_timed_beside_the_forward_pass():
    for run in (plain_timings.time_forward, plain_timings.time_features):
        seconds, cpu_seconds = run(16)
        assert seconds > 0 and cpu_seconds > 0.05


def test_errors_are_timed_in_their_own_processes():
    rows = list(timings.time_errors(repeats=1))
    assert len(rows) == 2 and all(0 < row["seconds"] < 60 for row in rows)
    with pytest.raises(UserError, match="status 2, not 0"):
        timings.time_command("mi_estimator.estimate", ["missing.csv"])


@pytest.mark.slow
def test_an_estimate_is_timed_with_its_memory():
    (row,) = timings.time_estimate("cpu", 4000, ("--estimator", "lda"))
    assert 0 < row["seconds"] < 600 and 0.1 < row["memory_gb"] < 4
    estimate, exact = map(float, re.findall(r"-?\d+\.\d+", row["note"]))
    assert estimate == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("part", ["plain", "digits", "gpu"])
def test_without_mnist_nothing_is_written(part, tmp_path, user_error):
    words = ["--parts", part, "--data-dir", tmp_path, "--output-dir", tmp_path / "out"]
    assert "scripts.download_data mnist" in user_error(main, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("part", ["suite", "memory"])
def test_without_the_device_nothing_is_written(tmp_path, user_error, part):
    words = ["--parts", part, "--device", "cuda", "--output-dir", tmp_path / "out"]
    assert "--device cuda: no CUDA device here" in user_error(main, words)
    assert list(tmp_path.iterdir()) == []


def head_and_features_of_fixed_seconds(monkeypatch) -> plain_timings.Stage:
    monkeypatch.setattr(plain_timings, "time_features", lambda images: (60.0, 50.0))
    return plain_timings.head()


def four_boxes(monkeypatch) -> plain_timings.Stage:
    monkeypatch.setattr(plain_timings, "MAPS", 4)
    return plain_timings.boxes(64)


@pytest.mark.parametrize("stage", [head_and_features_of_fixed_seconds, four_boxes])
def test_a_stage_is_timed_beside_its_plain_version(stage, monkeypatch):
    row = plain_timings.measure(lambda: stage(monkeypatch), repeats=1)
    assert row["plain"] > row["cpu_seconds"] > 0
    assert (row["plain"] > 50) == (stage is head_and_features_of_fixed_seconds)
    assert row["ratio"] == pytest.approx(row["plain"] / row["cpu_seconds"])
    assert 0.1 < row["memory_gb"] < 8


@pytest.fixture
def measured(monkeypatch):
    """Stages take half a second, and their plain versions four times as long."""
    row = {"cpu_seconds": 0.5, "memory_gb": 1.25, "plain": 2.0, "ratio": 422.04}
    pool = SimpleNamespace(submit=lambda *_: SimpleNamespace(result=lambda: dict(row)))
    monkeypatch.setattr(plain_timings, "worker_pool", lambda _: contextlib.nullcontext(pool))


def test_stages_are_written_one_by_one_with_the_bound_of_the_machine(measured, tmp_path):
    rows = itertools.islice(plain_timings.time_stages(tmp_path, repeats=1), 2)
    timings.write_rows(rows, plain_timings.COLUMNS, tmp_path / "plain", on_gpu=False)
    shown = page_tables.cpu_speed(pd.read_csv(tmp_path / "plain.csv"))
    # 2 x 2048^3 in half a second
    assert shown["note"].tolist() == ["the bound of this machine: 34 GFLOP/s", "16,500 images"]
    assert shown["plain version"].tolist() == ["", "DataLoader and SGD of PyTorch"]
    assert shown["CPU seconds"].tolist() == ["0.5", "0.5"]
    assert shown["ratio"].tolist() == ["422", "422"]  # three digits, as those of the seconds
    assert shown["memory, GB"].tolist() == ["1.25", "1.25"]


def test_each_group_of_parts_writes_a_table_of_its_own(
    measured, pytestconfig, monkeypatch, tmp_path
):
    monkeypatch.setattr(timings, "time_command", lambda *_: (0.25, 1.0))
    digits = pytestconfig.rootpath / "data"
    main(["--parts", "errors", "plain", "--data-dir", str(digits), "--output-dir", str(tmp_path)])
    assert list(pd.read_csv(tmp_path / "table.csv")["seconds"]) == [0.25, 0.25]
    assert len(pd.read_csv(tmp_path / "plain.csv")) == 7
    assert not (tmp_path / "gpu.csv").exists()
