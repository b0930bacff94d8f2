"""Errors that the user can correct, and the line that a script prints for each error."""

import errno
from pathlib import Path


class UserError(ValueError):
    """A mistake that the user can correct.

    The message is one line: the value, what is allowed, the remedy. Entry scripts print it
    without a traceback and end with exit status 2 (`mi_common.cli.entry`).
    """


def require(path: Path, name: str, data_dir: Path) -> None:
    """UserError, for a missing path, with the command that downloads it."""
    if not path.exists():
        raise UserError(f"no {name} data: looked for {path}; {remedy(name, data_dir)}")


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
