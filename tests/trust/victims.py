"""Processes that run an entry, to be killed: forked from this one, or fresh with their imports."""

import atexit
import contextlib
import importlib
import multiprocessing.util
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from tests.trust.faults import Fault
from tests.trust.zygote import TAG, kill_session, lead_session, processes_of

REPO = Path(__file__).resolve().parents[2]


@dataclass
class Victim:
    """A running entry; `status` is None until it has ended."""

    pid: int
    errors: Path
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    ended: float = 0.0

    def wait(self, seconds: float) -> bool:
        """Whether it ended within the time."""
        until = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status, self.ended = os.waitstatus_to_exitcode(status), time.monotonic()
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.005)
        return True

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def lines(self) -> list[str]:
        """What it wrote to stderr."""
        return self.errors.read_text(errors="replace").splitlines()

    def survivors(self, seconds: float) -> int:
        """How many of its processes live longer than so many seconds.

        A worker that imports notices late that its parent is gone. So where imports take more than
        half of the time, as on a busy machine, all get the time of further imports.
        """
        left = self.left_after(seconds)
        if left and (imports := seconds_of_imports()) > seconds / 2:
            left = self.left_after(imports)
        return left

    def left_after(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        while (left := processes_of(self.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        return len(left)

    def bury(self) -> None:
        """Kills what is left of it."""
        kill_session(self.pid)
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(10)


def seconds_of_imports() -> float:
    """Those of a worker process, on this machine now."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import mi_common.workers"], cwd=REPO, check=True)
    return time.monotonic() - begun


def start(entry: str, words: list[str], errors: Path, fault: Fault | None = None,
          watched: list[Path] = ()) -> Victim:  # fmt: skip
    """Forks a process that runs an entry; it is in its `main` when this returns."""
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            lead_session(parent)
            atexit._clear()
            _redirect(errors)
            if fault is not None:
                fault.install(list(watched))
            os.write(writing, b"s")
            status = _call(entry, words)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return Victim(pid, errors)


def start_fresh(entry: str, words: list[str], errors: Path) -> Victim:
    """Starts `python -m entry` as a user does; it is at its imports when this returns."""
    environment = os.environ | {"PYTHONPATH": str(REPO)}

    def before() -> None:
        os.setsid()

    with errors.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", entry, *words],
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=environment | {TAG: f"{os.environ.get(TAG, '')}/fresh/"},
            preexec_fn=before,
        )
    process.returncode = 0  # waited for here
    return Victim(process.pid, errors)


def _redirect(errors: Path) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(null, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _call(entry: str, words: list[str]) -> int:
    """Runs a `main` to its end, as the interpreter would; returns the exit status."""
    try:
        importlib.import_module(entry).main(words)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    multiprocessing.util._exit_function()
    sys.stdout.flush()
    return status
