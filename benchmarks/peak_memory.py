"""Peak resident memory of a command that runs in a process of its own.

    python -m benchmarks.peak_memory COMMAND...

prints it in bytes. A process inherits the peak of the one that started it, so that the
one in between must be small: this file imports nothing large.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024
"""Of ``ru_maxrss``. Source: getrusage(2) of macOS and of Linux."""


def peak_memory_gb(command: Sequence[str]) -> float:
    """Run a command and return its peak resident memory in GB (1e9 bytes).

    Raises:
        subprocess.CalledProcessError: when the command fails.
    """
    small = [sys.executable, __file__, *command]
    done = subprocess.run(small, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / 1e9


def _measure(command: Sequence[str]) -> int:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES_PER_UNIT


if __name__ == "__main__":
    print(_measure(sys.argv[1:]))
