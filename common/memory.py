"""Whether something fits into memory, asked before the memory is taken."""

import psutil

from common.errors import UserError


def require_memory(needed: int, what: str, remedy: str = "use less of it") -> None:
    """UserError when `needed` bytes are more than this machine has available."""
    available = psutil.virtual_memory().available
    if needed > available:
        raise UserError(
            f"{what}: needs {needed / 1e9:,.1f} GB of memory, {available / 1e9:,.1f} GB are "
            f"available; {remedy}"
        )
