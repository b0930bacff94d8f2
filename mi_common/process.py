"""How a process begins and ends. The standard library alone: it runs before slow imports."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

PARENT = "MI_COMMON_PARENT"  # in the environment of worker processes, until they have read it

# Read early: an orphan gets another parent. That of a worker may have ended before.
_parent = int(os.environ.pop(PARENT, 0)) or os.getppid()


def _remember_parent() -> None:
    global _parent
    _parent = os.getppid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember_parent)


def quiet_interrupt() -> None:
    """Ctrl-C while `python -m` still imports ends with one line; does nothing in a library's use.

    Once `main` runs, `mi_common.cli.entry` handles Ctrl-C.
    """
    if sys.argv[:1] == ["-m"]:  # what runpy puts there while it looks for the module
        signal.signal(signal.SIGINT, _end_at_once)


def _end_at_once(signum, frame) -> None:
    """Ends with a signal: a library that is being imported could swallow an exception."""
    os.write(2, b"interrupted; run the command again\n")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


_workers: set = set()  # worker processes that are running, of type multiprocessing.Process


@contextmanager
def killed_on_error(workers: Iterable) -> Iterator[None]:
    """Kills processes if the block, or the script (`kill_workers`), ends with an error."""
    workers = set(workers)
    _workers.update(workers)
    try:
        yield
    except BaseException:
        kill_workers()
        raise
    finally:
        _workers.difference_update(workers)


def kill_workers() -> None:
    workers = list(_workers)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(5)  # until it is gone, it holds its locks


def end_with_parent(parent: int | None = None) -> None:
    """Ends this process within a second of the end of the process that started it.

    Otherwise a worker that waits for work would wait for ever. `parent` is the id of that process,
    None for the parent at the time of the imports.
    """
    expected = _parent if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if "--multiprocessing-fork" in sys.orig_argv:  # a worker process, before its slow imports
    end_with_parent()
