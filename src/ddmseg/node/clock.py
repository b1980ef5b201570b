"""Time as the node counts it: by how long it has run, never by the time of day."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ddmseg.atomic import atomic_write

MAX_CHARACTERS = 40


class RunningClock:
    """Seconds that the nodes of a spool have run, all runs together.

    What is kept for days is measured by it. A clock of the machine that is set forward, or is
    wrong at a start, then removes nothing, and one that is set back holds nothing up.

    Args:
        path: of the file that outlives the program; absent or damaged, counting begins anew.
        now: a clock in seconds that only runs forward.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._now = path, now
        self._before, self._start = _read(path), now()

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self._before + self._now() - self._start

    def save(self) -> None:
        """Have the next run go on from here.

        Raises:
            OutputError: when the disk does not allow it.
        """
        with atomic_write(self._path) as partial:
            partial.write_text(f"{self():.3f}\n", encoding="ascii")


def _read(path: Path) -> float:
    try:
        with path.open(encoding="ascii") as stream:
            seconds = float(stream.read(MAX_CHARACTERS))
    except (OSError, ValueError):
        return 0.0
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0
