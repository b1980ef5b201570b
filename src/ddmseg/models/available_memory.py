"""How much memory this process may come to use, and how it keeps what it had."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_PAGES = Path("/proc/self/statm")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def memory_for_this_process() -> int | None:
    """Return the bytes that this process may hold in all, those it holds already included.

    The least of what the system has to spare and of what control groups (containers,
    batch systems) and the shell's limit (``ulimit -v``) allow; None where nothing tells.
    """
    told = (_system_spare(), _limit_spare(), *_group_spares())
    spare = [found for found in told if found is not None]
    return max(min(spare), 0) + _pages(1) if spare else None


def _system_spare() -> int | None:
    """Bytes that the system can give without swapping.

    Source: proc(5), MemAvailable; elsewhere free pages by sysconf(3).
    """
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _limit_spare() -> int | None:
    """Bytes of address space that the process may still take; None without a limit.

    Source: getrlimit(2), RLIMIT_AS.
    """
    try:
        import resource
    except ImportError:  # there is none on Windows
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if most == resource.RLIM_INFINITY else most - _pages(0)


def _pages(column: int) -> int:
    """Bytes of one column of /proc/self/statm: 0 the address space, 1 what is in memory."""
    try:
        return int(_OWN_PAGES.read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError, IndexError):
        return 0


def _group_spares() -> list[int | None]:
    """What is left in each control group around this process.

    Source: the kernel's cgroup-v2.rst (memory.max, memory.current) and
    cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes).
    """
    try:
        rows = [line.split(":", 2) for line in _OWN_GROUP.read_text().splitlines()]
    except OSError:
        return []
    spares: list[int | None] = []
    for controllers, path in (row[1:] for row in rows if len(row) == 3):
        if not controllers:
            root, names = _GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _GROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the group's own path may be missing: then the root stands for it.
        group = root / path.strip("/")
        levels = (level for level in (group, *group.parents) if level.is_relative_to(root))
        spares += [_spare_of(level, *names) for level in levels]
    return spares


def _spare_of(level: Path, limit: str, used: str, cached: str) -> int | None:
    """What is left in one group; None without a limit, which reads ``max``."""
    try:
        spare = int((level / limit).read_text()) - int((level / used).read_text())
    except (OSError, ValueError):
        return None
    try:  # files in memory that the kernel drops before it lets anybody starve
        rows = (level / "memory.stat").read_text().splitlines()
        return spare + int(dict(line.split() for line in rows).get(cached, "0"))
    except (OSError, ValueError):
        return spare


_MALLOPT = {
    -4: 0,  # M_MMAP_MAX: nothing straight from the kernel, all from the heap
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: never
    -2: 256 * 2**20,  # M_TOP_PAD: grow by so many bytes
    -8: 1,  # M_ARENA_MAX: one heap for all threads
}
"""Source: malloc.h of the GNU C library, parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Have malloc reuse what was freed; call it before the first large tensor.

    The GNU C library gives blocks above 32 MB straight from the kernel and returns them at once:
    each feature map of a 3-D network is one, filled with zeros page by page, layer by layer. From
    freed memory a training step took about half the time. The price: the process keeps its
    peak until it ends. One heap for all threads: what one stage frees serves the next.

    Returns:
        Whether it took effect: only the GNU C library knows these settings; with
        any other nothing happens.
    """
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version  # musl has a mallopt of no effect, but not this
    except (OSError, AttributeError, TypeError):
        return False
    return all([library.mallopt(name, value) == 1 for name, value in _MALLOPT.items()])
