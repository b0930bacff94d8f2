"""Runs many independent computations: in this process, in worker processes, or on a Dask cluster.

Worker processes end when this process ends: by Ctrl-C, SIGTERM or SIGKILL.
"""

import asyncio
import importlib.util
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import pandas as pd
import torch
from tqdm import tqdm

from mi_common.allocator import keep_freed_memory
from mi_common.errors import UserError, require_memory
from mi_common.files import release_locks
from mi_common.process import PARENT, end_with_parent, killed_on_error
from mi_common.progress import Progress
from mi_common.results import ResultsFile
from mi_common.runtime import Runtime

WORKER_MEMORY = 900_000_000  # bytes that a worker process uses after its imports
CLUSTER_SECONDS = 20  # within which a scheduler must answer


def _start_worker(parent: int) -> None:
    end_with_parent(parent)
    keep_freed_memory()
    torch.set_num_threads(1)
    # tqdm's own lock is a semaphore, of which Python would complain when the worker is killed.
    tqdm.set_lock(threading.RLock())


@contextmanager
def worker_pool(num_workers: int) -> Iterator[Executor]:
    """Worker processes, on one thread each, that are killed if the block ends with an error.

    UserError if they do not fit into memory or one ends by itself, as where its imports fail;
    BrokenProcessPool if the system killed one.
    """
    require_memory(num_workers * WORKER_MEMORY, f"--num-workers {num_workers}", "use fewer")
    pool = ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )
    before = set(multiprocessing.active_children())
    terminated, handlers = [], {}
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches all processes of a terminal. Workers inherit that it is ignored; this
        # process ends them. SIGTERM waits: a worker that is half started would print a traceback.
        handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        wait = lambda number, _: terminated.append(number)  # noqa: E731
        handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, wait)
    os.environ[PARENT] = str(os.getpid())
    try:
        for _ in range(num_workers):
            pool.submit(os.getpid)  # starts a process
    finally:
        os.environ.pop(PARENT, None)
        for number, handler in handlers.items():
            if handler is not None:  # one that was not set from Python
                signal.signal(number, handler)
    try:
        workers = set(multiprocessing.active_children()) - before
        with killed_on_error(workers):
            if terminated:
                signal.raise_signal(signal.SIGTERM)
            yield pool
    except BrokenProcessPool as error:
        if statuses := [worker.exitcode for worker in workers if (worker.exitcode or 0) > 0]:
            reason = "its error is above this line"
            raise UserError(
                f"a worker process ended with exit status {statuses[0]}; {reason}"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_jobs(
    function: Callable,
    jobs: list[tuple],
    *,
    runtime: Runtime,
    num_workers: int,
    cluster: str | None = None,
    names: list[str] | None = None,
) -> Iterator:
    """Yields `function(*job)` of each job as it is done.

    On a CPU, `num_workers` processes run one job at a time each, on one thread, because more
    threads do not speed up small networks. On a GPU, or with fewer than two workers or jobs, this
    process runs one job after another. `function` and the jobs must be picklable.

    Args:
        cluster: address of a Dask scheduler, whose workers run the jobs instead.
        names: of the jobs; with names, the progress is shown (`mi_common.progress`).

    UserError if torchrun started this process, workers do not fit into memory, or no scheduler
    answers.
    """
    if runtime.world_size > 1:
        raise UserError("run without torchrun: this script starts its own processes")
    num_workers = min(num_workers, len(jobs))
    with Progress("", len(jobs), show=names is not None) as progress:

        def in_turn() -> Iterator[tuple[int, object]]:
            for number, job in enumerate(jobs):
                if names is not None:
                    progress.name(names[number])
                yield number, function(*job)

        if cluster is not None:
            results = _on_cluster(function, jobs, cluster)
        elif num_workers < 2 or runtime.device.type != "cpu":
            results = in_turn()
        else:
            results = _in_processes(function, jobs, num_workers)
        for done, (number, result) in enumerate(results, start=1):
            yield result
            progress.step()
            if names is not None:
                progress.finish(f"{done}/{len(jobs)} {names[number]}")


def _in_processes(
    function: Callable, jobs: list[tuple], num_workers: int
) -> Iterator[tuple[int, object]]:
    with worker_pool(num_workers) as pool:
        numbers = {pool.submit(function, *job): number for number, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], future.result()


def _on_cluster(
    function: Callable, jobs: list[tuple], address: str
) -> Iterator[tuple[int, object]]:
    """Runs the jobs on Dask, which reruns the job of a worker that dies."""
    try:
        from dask import distributed
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install -r requirements-cluster.txt") from error

    flag = f"--cluster {address}"

    async def ask() -> None:
        options = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, connection_args=options) as scheduler:
            await scheduler.identity()

    try:
        # A client would wait for ever where something else listens.
        asyncio.run(asyncio.wait_for(ask(), CLUSTER_SECONDS))
        client = distributed.Client(address, timeout=CLUSTER_SECONDS)
    except Exception as error:  # strange addresses and answers raise many kinds
        raise UserError(f"{flag}: no Dask scheduler answers there") from error
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its errors are reported below
    with client:
        if not client.nthreads():
            print(f"{flag}: no workers yet, waiting for the first", flush=True)
            client.wait_for_workers(1)
        try:
            client.run_on_scheduler(importlib.util.find_spec, __name__)
            client.run(importlib.util.find_spec, __name__)
        except ImportError as error:
            # Dask would wait for ever: such a worker dies at its first job.
            raise UserError(
                f"{flag}: scheduler or workers cannot import {__name__}; start them "
                "with the project's folder as PYTHONPATH, or install it there"
            ) from error
        place = os.getcwd()
        numbers = {
            client.submit(_on_one_thread, place, function, *job, pure=False): number
            for number, job in enumerate(jobs)
        }
        for future in distributed.as_completed(numbers):
            try:
                result = future.result()
            except distributed.KilledWorker as error:
                raise UserError(
                    f"{flag}: a computation was lost with several workers, "
                    "probably out of memory; go on with --resume"
                ) from error
            except (CancelledError, distributed.comm.CommClosedError) as error:
                raise UserError(f"{flag}: the scheduler is gone; go on with --resume") from error
            yield numbers[future], result


def _on_one_thread(folder: str, function: Callable, *job):
    if os.getcwd() != folder:
        os.chdir(folder)  # relative paths are those of the command
    torch.set_num_threads(1)
    try:
        return function(*job)
    finally:
        release_locks()  # the worker lives on


def run_cells(
    compute_cell: Callable[..., list[dict]],
    arguments_of_cell: dict[tuple, tuple],
    results: ResultsFile,
    **options,
) -> pd.DataFrame:
    """Computes the cells that `results` lacks, writes the rows of each at once, shows the progress.

    Args:
        compute_cell: returns the rows of a cell; picklable, as its arguments are.
        arguments_of_cell: of `compute_cell`, by the cell's values of the columns `results.key`.
        options: runtime, num_workers and cluster of `run_jobs`.

    Returns:
        The rows of all cells in the order of `arguments_of_cell`, also those of an earlier run.
    """
    missing = [cell for cell in arguments_of_cell if cell not in results]
    names = [  # "mnist softmax seed 0": numbers after the names of their columns
        " ".join(
            str(value) if column in results.text else f"{column} {value}"
            for column, value in zip(results.key, cell, strict=True)
        )
        for cell in missing
    ]
    jobs = [arguments_of_cell[cell] for cell in missing]
    for rows in run_jobs(compute_cell, jobs, names=names, **options):
        results.add(rows)
    return results.select(list(arguments_of_cell))
