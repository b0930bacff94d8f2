"""--cluster: the cells of a benchmark on a real Dask scheduler and two worker processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from processes import ended, read_line, started, wait_until

from mi_common import cli, workers
from mi_common.workers import CLUSTER_SECONDS, run_jobs
from mi_estimator import benchmark, benchmark_report
from mi_estimator.cell import KEY
from pc_softmax import compare, comparison

distributed = pytest.importorskip("dask.distributed")

CELLS = "--suite small-sample --estimators softmax lda --seeds 0 --n-train 300 --n-test 500"
CELLS += " --epochs 50 --num-workers 0 --device cpu"
INTERRUPTED = "interrupted; run the command again"
GONE = "the scheduler is gone; go on with --resume"
LOSSES = "--dataset digits --losses softmax pc-softmax --seeds 0 --epochs 1 --num-workers 0"
LOSSES += " --device cpu"


def start_scheduler(stack: ExitStack, folder: Path) -> tuple[str, subprocess.Popen]:
    """Its address and its process."""
    file = folder / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file]
    process = stack.enter_context(started("-m", "distributed.cli.dask_scheduler", *words))
    wait_until(lambda: file.exists() and file.read_text().endswith("}"))
    return json.loads(file.read_text())["address"], process


def start_worker(stack: ExitStack, folder: Path, address: str, name: str, **options):
    """A worker without a nanny, which would start another one in its place."""
    words = [address, "--name", name, "--no-nanny", "--nthreads", 1, "--no-dashboard"]
    words += ["--local-directory", folder / name]
    command = ["-m", "distributed.cli.dask_worker", *words]
    # Not where the command runs: relative paths are the command's.
    return stack.enter_context(started(*command, cwd=folder, **options))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler, its process, and those of its two workers by name."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        address, scheduler = start_scheduler(stack, folder)
        workers = {name: start_worker(stack, folder, address, name) for name in "ab"}
        yield address, scheduler, workers


def rows(folder: Path, key: list[str]) -> pd.DataFrame:
    """Of results.csv, sorted, without the time that they took."""
    return pd.read_csv(folder / "results.csv").drop(columns="seconds").sort_values(key)


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        first.reset_index(drop=True), second.reset_index(drop=True), check_exact=True
    )


@pytest.mark.slow
def test_losses_compared_on_a_cluster_give_the_rows_of_one_process(cluster, tmp_path, monkeypatch):
    address, _, _ = cluster
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "write_comparison", lambda *parts: None)  # tables and figures
    compare.main([*LOSSES.split(), "--output-dir", "alone"])
    compare.main([*LOSSES.split(), "--output-dir", "many", "--cluster", address])
    key = [*comparison.KEY, "test_set", "rule"]
    same(rows(tmp_path / "many", key), rows(tmp_path / "alone", key))
    assert len(rows(tmp_path / "many", key)) == 5
    for name in ("softmax-0", "pc-softmax-0"):
        weights = [(tmp_path / side / name / "predictions.npz") for side in ("alone", "many")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_worker_killed_in_mid_run_costs_nothing(cluster, tmp_path, monkeypatch):
    address, _, processes = cluster
    monkeypatch.setattr(benchmark_report, "report", lambda *parts: None)  # in this process
    words = ["-m", "mi_estimator.benchmark", *CELLS.split(), "--cluster", address]
    with (
        distributed.Client(address) as client,
        started(*words, "--output-dir", tmp_path / "many") as process,
    ):
        wait_until((tmp_path / "many/results.csv").exists)
        found = client.scheduler_info()["workers"]
        names = {worker["name"]: where for where, worker in found.items()}
        assert len(client.processing()[names["a"]]) > 0
        processes["a"].send_signal(signal.SIGKILL)
        done = len(pd.read_csv(tmp_path / "many/results.csv"))
        benchmark.main([*CELLS.split(), "--output-dir", str(tmp_path / "alone")])
        status, _, errors = ended(process)
        assert (status, errors) == (0, [])
        assert list(client.scheduler_info()["workers"]) == [names["b"]]
    assert 1 <= done < 14
    many, alone = (rows(tmp_path / side, KEY) for side in ("many", "alone"))
    assert len(alone) == 14 and set(alone["status"]) == {"ok"}
    same(many, alone)


def test_workers_without_the_project_are_one_line(tmp_path, user_error, cpu):
    @cli.entry
    def main(argv):
        list(run_jobs(pow, [(2, 3)], runtime=cpu, num_workers=0, cluster=argv[0]))

    with ExitStack() as stack:
        address, _ = start_scheduler(stack, tmp_path)
        start_worker(stack, tmp_path, address, "d", env={"PYTHONPATH": ""})
        line = user_error(main, [address])
        assert address in line and "PYTHONPATH" in line


@pytest.fixture
def answering():
    """Starts a service that sends `reply` to who connects, or nothing; its address."""
    with ExitStack() as stack:

        def serve(reply: bytes | None) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            connections = []

            def accept() -> None:
                with contextlib.suppress(OSError):  # it is closed at the end
                    while True:
                        connections.append(stack.enter_context(listener.accept()[0]))
                        connections[-1].sendall(reply or b"")

            threading.Thread(target=accept, daemon=True).start()
            return f"tcp://127.0.0.1:{listener.getsockname()[1]}"

        yield serve


def test_an_address_without_a_scheduler_is_one_line(monkeypatch, user_error, cpu, answering):
    assert CLUSTER_SECONDS <= 20
    monkeypatch.setattr(workers, "CLUSTER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    others = [answering(reply) for reply in (None, b"HTTP/1.1 400 Bad Request\r\n", bytes(64))]
    strange = ["", "x", "127.0.0.1", "tcp://", "tcp://a:b", "tcp://127.0.0.1:99999", "inproc://x"]

    @cli.entry
    def main(argv):
        list(run_jobs(pow, [(2, 3)], runtime=cpu, num_workers=0, cluster=argv[0]))

    for address in [nobody, *others, *strange, "tls://127.0.0.1:1", "http://127.0.0.1:1"]:
        begun = time.monotonic()
        line = f"error: --cluster {address}: no Dask scheduler answers there"
        assert user_error(main, [address]) == line
        assert time.monotonic() - begun < 5


ADD = """
import sys, time

import torch

from mi_common import cli
from mi_common.runtime import Runtime
from mi_common.workers import run_jobs


def add(number):
    time.sleep(1)
    return number


@cli.entry
def main(argv):
    jobs = [(int(argv[1]) + i,) for i in range(40)]
    cpu = Runtime(torch.device("cpu"))
    for result in run_jobs(add, jobs, runtime=cpu, num_workers=0, cluster=argv[0]):
        print(result, flush=True)


main(sys.argv[1:])
"""


def test_ctrl_c_and_a_scheduler_that_dies_are_one_line(cluster):
    """The last test here: it ends the scheduler."""
    address, scheduler, _ = cluster
    for number, stop, status, line in (
        (1, lambda process: os.killpg(process.pid, signal.SIGINT), 130, INTERRUPTED),
        (2, lambda process: scheduler.kill(), 2, f"error: --cluster {address}: {GONE}"),
    ):
        with started("-c", ADD, address, number) as process:
            assert int(read_line(process)) in range(number, number + 40)
            stop(process)
            assert ended(process)[::2] == (status, [line])
