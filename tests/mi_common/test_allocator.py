"""glibc's malloc keeps large blocks, where it is the C library."""

import os
import subprocess
import sys

import pytest

from mi_common.allocator import keep_freed_memory

# Minor page faults of 20 blocks of 64 MB, each freed before the next.
FAULTS = """
import resource, sys
from mi_common.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
bytearray(1 << 26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(1 << 26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="needs glibc"
)


@pytest.mark.parametrize("names", [{}, {"CS_PATH": 0}, None])
def test_other_c_libraries_are_left_alone(monkeypatch, names):
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("no glibc here"))
    if names is None:
        monkeypatch.delattr(os, "confstr_names", raising=False)
    else:
        monkeypatch.setattr(os, "confstr_names", names, raising=False)
    assert keep_freed_memory() is False


@glibc
def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "1000")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the user has chosen"))
    assert keep_freed_memory() is True


def faults(word: str) -> int:
    command = [sys.executable, "-c", FAULTS, word]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@glibc
def test_freed_blocks_are_used_again():
    assert faults("keep") < 0.1 * faults("as it is")
