"""How the C library hands out large blocks of memory. The standard library alone."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of <malloc.h>
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes glibc's malloc reuse large blocks; returns False under another C library.

    By default, glibc maps each large block anew and gives it back when it is freed, so the kernel
    clears every activation's pages in every forward pass: half of the CPU time of feature
    extraction. Here large blocks come from the heap, which is not trimmed, and a process keeps its
    peak memory to its end. Computed values do not change. `MALLOC_MMAP_MAX_` or
    `MALLOC_TRIM_THRESHOLD_` in the environment keeps the user's own choice.
    """
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return False  # macOS, Windows, musl
    if {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys():
        return True
    libc = ctypes.CDLL(None)
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER}
    return all([libc.mallopt(name, value) for name, value in settings.items()])
