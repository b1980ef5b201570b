"""Keeping freed memory: takes effect with the GNU C library, does nothing elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from ddmseg.models import available_memory as memory

GNU = platform.libc_ver()[0] == "glibc"

# Page faults tell whether a block came from the kernel anew or from freed memory.
COUNT_FAULTS = """
import ctypes, resource, sys
from ddmseg.models.available_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
SIZE = 64 * 2**20


def touch():
    block = library.malloc(ctypes.c_size_t(SIZE))
    ctypes.memset(block, 1, SIZE)
    library.free(block)


touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    words = [sys.executable, "-c", COUNT_FAULTS, how]
    # Whoever runs the tests may have told the library to keep memory by these variables.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(not GNU, reason="only the GNU C library has these settings")
def test_freed_memory_is_used_again_without_fresh_pages() -> None:
    # huge pages make faults rarer, so the promise is a ratio
    assert faults("keep") * 4 < faults("as-is")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def mallopt(self, name: int, value: int) -> int:
            raise AssertionError("must not be called")

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    assert memory.keep_freed_memory() is False


def test_no_c_library_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert memory.keep_freed_memory() is False
