"""Faults at an exact point of a process: the n-th file that it opens, renames, syncs or removes.

    count = watch([folder])                   # count["points"] grows
    Fault("kill", point=7).install([folder])  # this process dies there

They come from Python's audit events, so that no line of the project knows of them.
"""

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
ERRORS = {"disk full": errno.ENOSPC, "read-only": errno.EROFS, "broken disk": errno.EIO}
ERRORS |= {"no permission": errno.EACCES}
SIGNALS = {"kill": signal.SIGKILL, "torn": signal.SIGKILL, "terminate": signal.SIGTERM}
SIGNALS |= {"interrupt": signal.SIGINT}


def _watch(folders: list[Path], at: Callable[[str, str], None]) -> None:
    """Calls `at(event, path)` before each change below the folders, in this process."""
    roots = tuple(str(folder) for folder in folders)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            # A lock is taken and let go; it holds nothing.
            if not writes or str(path).endswith(".lock"):
                return
        elif event in CHANGES:
            path = args[1] if event == "os.rename" else args[0]
        else:
            return
        if os.path.abspath(os.fsdecode(path) if not isinstance(path, int) else "").startswith(
            roots
        ):
            at(event, args[0])

    sys.addaudithook(hook)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        at("os.fsync", "")
        sync(descriptor)

    os.fsync = fsync


def watch(folders: list[Path]) -> dict[str, int]:
    """Counts the points from here on."""
    count = {"points": 0}

    def at(event: str, path: str) -> None:
        count["points"] += 1

    _watch(folders, at)
    return count


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th point, counted from 1.

    Attributes:
        kind: a signal to this process (`kill`, `torn`: with the new file cut in half before its
            rename, `terminate`, `interrupt`), an error there and at all later points (ERRORS), or
            `file too large`, an error of all writes beyond `size` bytes of a file.
    """

    kind: str
    point: int = 0
    size: int = 0

    def install(self, folders: list[Path]) -> None:
        if self.kind == "file too large":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))
            return
        count = 0

        def at(event: str, path: str) -> None:
            nonlocal count
            count += 1
            if self.kind in ERRORS:
                # What is full can still be emptied.
                if count >= self.point and event not in ("os.remove", "os.rmdir"):
                    raise OSError(ERRORS[self.kind], os.strerror(ERRORS[self.kind]), str(path))
            elif count == self.point:
                if self.kind == "torn" and event == "os.rename" and os.path.isfile(path):
                    os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), SIGNALS[self.kind])

        _watch(folders, at)
