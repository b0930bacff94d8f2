"""Runs functions in forked children, so that imports are paid for once and nothing leaks.

    for number, report in run_forked(jobs, at_once=2, limit=20):

Each child leads a session of its own, by which every process that it starts can be found, and has
a limit of memory. It answers with `send(object)`; Linux only.
"""

import contextlib
import ctypes
import importlib
import io
import os
import pickle
import pkgutil
import resource
import selectors
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("mi_common", "mi_estimator", "pc_softmax", "infocam", "scripts")
MEMORY = 4 << 30  # bytes that a child may take beyond what this process has
FILE = 1 << 30  # bytes that a file of a child may have
FORKS = 64  # that a child may make before it is stopped
TOO_MANY_FORKS = 86  # its status then
PR_SET_PDEATHSIG = 1
TAG = "PCS_TRUST_SESSIONS"  # in the environment of whatever a child starts, as /1234/


@dataclass
class Report:
    """How a child ended, and the objects that it sent before."""

    sent: list
    status: int  # as of os.waitstatus_to_exitcode
    hung: bool
    seconds: float
    left_over: int  # processes of its session that were still there


@dataclass
class _Child:
    number: int
    pid: int
    pipe: int
    pidfd: int
    started: float
    data: bytearray = field(default_factory=bytearray)


def import_everything() -> None:
    """Imports all modules of the project and what a first use would: a fork has them at once."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "pandas.io.parquet", "pyarrow.parquet", "sklearn.datasets"):
        importlib.import_module(name)


def processes_of(session: int) -> list[int]:
    """Living processes of a session, and those that carry its tag in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            tags = [
                word
                for word in (folder / "environ").read_bytes().split(b"\0")
                if word.startswith(TAG.encode())
            ]
            if int(fields[3]) == session or any(f"/{session}/".encode() in tag for tag in tags):
                found.append(int(folder.name))
    return found


def kill_session(session: int) -> int:
    """Kills what is left of a session; returns how many processes that were."""
    left = processes_of(session)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def lead_session(parent: int) -> None:
    """Makes this process the first of a session, with usual signals, that dies with `parent`."""
    os.setsid()
    os.environ[TAG] = f"{os.environ.get(TAG, '')}/{os.getpid()}/"
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    for what, most in (("AS", limit), ("CORE", 0), ("FSIZE", FILE)):
        limited = getattr(resource, f"RLIMIT_{what}")
        resource.setrlimit(limited, (most, resource.getrlimit(limited)[1]))
    sys.addaudithook(_count_forks([0]))


def _count_forks(count: list[int]) -> Callable[[str, tuple], None]:
    def hook(event: str, args: tuple) -> None:
        if event in ("os.fork", "os.posix_spawn", "subprocess.Popen"):
            count[0] += 1
            if count[0] > FORKS:
                os._exit(TOO_MANY_FORKS)

    return hook


def run_forked(
    jobs: Iterable[Callable[[Callable], None]], *, at_once: int, limit: float
) -> Iterator[tuple[int, Report]]:
    """Runs each `job(send)` in a child and yields its number and report, as they end.

    Args:
        at_once: children at a time.
        limit: seconds after which a child and all of its processes are killed.
    """
    waiting = iter(enumerate(jobs))
    running: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                while len(running) < at_once and (job := next(waiting, None)) is not None:
                    child = _start(*job)
                    running[child.pid] = child
                    selector.register(child.pipe, selectors.EVENT_READ, child)
                    selector.register(child.pidfd, selectors.EVENT_READ, child)
                if not running:
                    return
                for key, _ in selector.select(timeout=0.2):
                    if key.fd == key.data.pipe:
                        _drain(key.data)
                for child in list(running.values()):
                    late = time.monotonic() > child.started + limit
                    if late:
                        kill_session(child.pid)
                    pid, status = os.waitpid(child.pid, 0 if late else os.WNOHANG)
                    if pid == 0:
                        continue
                    del running[pid]
                    _drain(child)
                    for descriptor in (child.pipe, child.pidfd):
                        selector.unregister(descriptor)
                        os.close(descriptor)
                    yield child.number, _report(child, status, late)
        finally:
            for pid in running:
                kill_session(pid)
                os.waitpid(pid, 0)


def _start(number: int, job: Callable[[Callable], None]) -> _Child:
    parent = os.getpid()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            lead_session(parent)
            with warnings.catch_warnings():  # none counts as shown before
                job(lambda value: _send(writing, value))
            status = 0
        except BaseException:
            _send(writing, ("broken", traceback.format_exc()))
        finally:
            os._exit(status)
    os.close(writing)
    os.set_blocking(reading, False)
    return _Child(number, pid, reading, os.pidfd_open(pid), time.monotonic())


def _send(descriptor: int, value: object) -> None:
    data = memoryview(pickle.dumps(value))
    while data:
        data = data[os.write(descriptor, data) :]


def _drain(child: _Child) -> None:
    with contextlib.suppress(BlockingIOError):
        while part := os.read(child.pipe, 1 << 16):
            child.data += part


def _report(child: _Child, status: int, hung: bool) -> Report:
    sent, stream = [], io.BytesIO(bytes(child.data))
    with contextlib.suppress(EOFError, pickle.UnpicklingError):  # a child that died in a send
        while True:
            sent.append(pickle.load(stream))
    left = kill_session(child.pid)
    code = os.waitstatus_to_exitcode(status)
    return Report(sent, code, hung, time.monotonic() - child.started, left)
