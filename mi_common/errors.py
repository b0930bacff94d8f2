"""UserError, checks that raise it before work starts, and the line that a script prints."""

import errno
import shutil
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # version 2, as seen inside a container


class UserError(ValueError):
    """A mistake that the user can correct.

    The message is one line: the value, what is allowed, the remedy. Entry scripts print it
    without a traceback and end with exit status 2 (`mi_common.cli.entry`).
    """


def require(path: Path, name: str, data_dir: Path) -> None:
    """UserError, for a missing path, with the command that downloads it."""
    if not path.exists():
        raise UserError(f"no {name} data: looked for {path}; {remedy(name, data_dir)}")


def _available_to_container() -> float:
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        usage = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return limit - used + int(usage["file"])  # the system drops cached files when it must
    except (OSError, KeyError, ValueError):  # no container, or one without a limit ("max")
        return float("inf")


def require_memory(needed: int, what: str, remedy: str) -> None:
    """UserError when `needed` bytes are more than this machine has available."""
    available = min(psutil.virtual_memory().available, _available_to_container())
    if needed > available:
        raise UserError(
            f"{what}: needs {needed / 1e9:,.1f} GB of memory, {available / 1e9:,.1f} GB are "
            f"available; {remedy}"
        )


def require_disk(needed: int, folder: Path, what: str) -> None:
    """UserError when the disk of a folder has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        needs = f"needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free"
        raise UserError(f"{what}: {needs} in {folder.absolute()}; free some space")


def damaged(folder: Path, reason: str, name: str, data_dir: Path) -> UserError:
    """An error to raise. The remedy deletes first, because the download replaces nothing."""
    return UserError(f"{folder}: damaged ({reason}); delete it and {remedy(name, data_dir)}")


def remedy(name: str, data_dir: Path) -> str:
    return f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"


def one_line(error: Exception) -> str:
    """The line that a script prints for an error; empty for a bug of this project."""
    # The text of an error from a worker process begins with the traceback of that process.
    text = str(error)
    if isinstance(error, UserError):
        return " ".join(text.rpartition("mi_common.errors.UserError: ")[2].split())
    if "Symlink loop" in text:  # pathlib raises a RuntimeError
        return text
    if isinstance(error, BrokenPipeError):
        return "the output was closed before it was complete"
    if isinstance(error, OSError):
        hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        file = f"{error.filename}: " if error.filename is not None else ""
        return f"{file}{error.strerror or (text or repr(error)).splitlines()[-1]}{hint}"
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "not enough memory" in text or "can't allocate memory" in text:
        return "not enough memory; use a smaller --batch-size, fewer samples or smaller images"
    if "DataLoader worker" in text or "process pool was terminated" in text:
        return "a worker process was killed, probably out of memory; use fewer --num-workers"
    return ""
