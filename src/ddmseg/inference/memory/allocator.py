"""Keeps freed memory in the process, so that large tensors need no fresh pages.

The GNU C library gives blocks above 32 MB at most straight from the kernel and
returns them at once. Each feature map of a 3-D network is such a block: the kernel
fills it with zeros page by page, only for the convolution to overwrite it, again at
every layer. Served from freed memory instead, a training step of the 3-D network
took about half the time. The price: the process keeps its peak until it ends.

Each thread would get a heap of its own, made of pieces of 64 MB that go back to the kernel;
with one heap for all, what one stage of a pipeline frees serves the next.
"""

from __future__ import annotations

import ctypes

# Source: malloc.h of the GNU C library, parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_NEVER_TRIM = 2**31 - 1
_GROW_BY = 256 * 2**20


def keep_freed_memory() -> bool:
    """Have malloc reuse what was freed; call it before the first large tensor.

    Returns:
        Whether it took effect: only the GNU C library knows these settings; with
        any other nothing happens.
    """
    library = _gnu_c_library()
    if library is None:
        return False
    settings = (
        (_M_MMAP_MAX, 0),  # nothing straight from the kernel: all from the heap
        (_M_TRIM_THRESHOLD, _NEVER_TRIM),
        (_M_TOP_PAD, _GROW_BY),
        (_M_ARENA_MAX, 1),
    )
    return all([library.mallopt(name, value) == 1 for name, value in settings])


def _gnu_c_library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version  # musl has a mallopt of no effect, but not this
    except (OSError, AttributeError, TypeError):
        return None
    return library
