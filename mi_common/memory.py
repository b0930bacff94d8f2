"""Checks that something fits into memory before it is allocated."""

from pathlib import Path

import psutil

from mi_common.errors import UserError

CGROUP = Path("/sys/fs/cgroup")  # version 2, as seen inside a container


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
