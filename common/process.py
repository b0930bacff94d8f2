"""How a process begins and ends; the standard library alone, as it comes before slow imports."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

PARENT = os.getppid()  # at the start: later, an orphan has another one


def quiet_interrupt() -> None:
    """Ctrl-C while `python -m` still imports ends with one line; does nothing in a library's use.

    From the start of `main` on, `common.cli.entry` decides.
    """
    if sys.argv[:1] != ["-m"]:  # what runpy puts there while it looks for the module
        return

    sys.excepthook = _report_interrupt


def _report_interrupt(kind: type, error: BaseException, traceback) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run the command again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


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


def end_with_parent(parent: int) -> None:
    """Ends this process within a second of the end of the process that started it, number `parent`.

    A worker that waits for work would otherwise wait for ever.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
