"""Processes that tests start, send signals to and look for afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

REPO = Path(__file__).resolve().parents[2]


@contextmanager
def started(*words, **options) -> Iterator[subprocess.Popen]:
    """`python WORDS` in a process group of its own, all of which is gone after the block."""
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=options.pop("cwd", REPO),
        env=environment | options.pop("env", {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        everyone = descendants(process)
        if process.returncode is None or alive(everyone):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_two(function: Callable, *args, method: str = "spawn") -> None:
    """Calls `function(*args)` in two processes, as torchrun starts them, on one thread each.

    Args:
        method: "fork" where the function is a closure, or to import nothing again.
    """
    # Below the ports that the system hands out: until the workers listen, one of those is taken.
    port = 20_000 + os.getpid() % 10_000
    torch.multiprocessing.start_processes(
        _join, (port, function, args), nprocs=2, start_method=method
    )


def _join(rank: int, port: int, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    function(*args)
    torch.distributed.destroy_process_group()


def descendants(process: subprocess.Popen) -> list[psutil.Process]:
    """Its children and theirs; none where it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run; a dead one that nobody has waited for is not among them."""
    return [one for one in processes if one.is_running() and one.status() != "zombie"]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> float:
    """Seconds until the condition held; AssertionError when it does not in time."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def ended(process: subprocess.Popen, seconds: float = 60) -> tuple[int, list[str], list[str]]:
    """Status and the lines of standard output and error, once it has ended."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out.splitlines(), err.splitlines()


def read_line(process: subprocess.Popen) -> str:
    """The next line of its standard output; fails with what it wrote on standard error."""
    line = process.stdout.readline().rstrip("\n")
    assert line, process.communicate(timeout=60)[1]
    return line
