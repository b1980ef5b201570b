"""The clock of one scan with a budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(frozen=True)
class Deadline:
    """When a scan must be done; the clock starts when this is made.

    Attributes:
        seconds: the budget, above 0.
        slowdown: how many times as slow as when its rates were measured the machine
            seems to be, at least 1.
        writes: whether writing the results belongs to the work.
        refuses: whether work that cannot be done in time is refused; else as little as
            possible is done.
        clock: seconds that only grow.
        start: its reading at the beginning.
    """

    seconds: float
    slowdown: float = 1.0
    writes: bool = False
    refuses: bool = True
    clock: Clock = time.perf_counter
    start: float = field(default=-1.0)

    def __post_init__(self) -> None:
        if self.start < 0:
            object.__setattr__(self, "start", self.clock())

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 when it has passed."""
        return self.seconds - self.spent

    def part(self, share: float, *, reserve: float) -> Deadline:
        """Return the deadline of a part of the work that begins now, writes and refuses nothing.

        Args:
            share: of what is left that the part may take, in (0, 1].
            reserve: seconds to keep for what comes after all parts.
        """
        seconds = max(self.left - reserve, 0.0) * share
        return Deadline(seconds, self.slowdown, refuses=False, clock=self.clock)
