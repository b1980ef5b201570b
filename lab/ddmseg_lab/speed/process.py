"""Seconds and peak memory of a command that runs in a process of its own.

    python process.py COMMAND...

prints them as JSON. A process inherits the peak of the one that started it, so that the
one in between must be small: run as a file, this imports nothing large.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024
"""Of ``ru_maxrss``. Source: getrusage(2) of macOS and of Linux."""
NOT_INHERITED = ("DDMSEG_MONITOR",)
"""Variables that would have a measured run leave traces."""


def measure_command(command: Sequence[str]) -> dict[str, float]:
    """Run a command to its end, its output thrown away, and return what it cost.

    That is ``seconds`` on the wall, ``processor_seconds`` of all its threads and
    ``peak_memory_gb``, the largest resident memory (1e9 bytes); NaN where not told.

    Raises:
        ScanError: when it ends with another exit code than 0; has its last line.
    """
    environment = {name: v for name, v in os.environ.items() if name not in NOT_INHERITED}
    # -P: modules beside this file must not take the place of Python's own
    small = [sys.executable, "-P", __file__, *command]
    done = subprocess.run(small, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        from ddmseg.errors import ScanError  # not needed, and not waited for, as a file

        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = lines[-1] if lines else "it said nothing"
        raise ScanError(f"a process ended with code {done.returncode}: {told}")
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def _measure(command: Sequence[str]) -> tuple[int, dict[str, float]]:
    start = time.perf_counter()
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    seconds = time.perf_counter() - start
    processor, peak = math.nan, math.nan
    if find_spec("resource") is not None:  # Windows has none
        import resource

        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime
        peak = used.ru_maxrss * BYTES_PER_UNIT / 1e9
    return code, {"seconds": seconds, "processor_seconds": processor, "peak_memory_gb": peak}


if __name__ == "__main__":
    exit_code, costs = _measure(sys.argv[1:])
    print(json.dumps(costs))
    sys.exit(exit_code)
