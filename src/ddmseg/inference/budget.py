"""The clock of ``--budget``: asked between samples whether there is time for another.

All that it knows it has seen on this scan: a step of a sample is timed before the first one, and
the rest of the work, restoring and writing, is expected to take as long as what came before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARGIN = 1.25
"""Work must fit when it takes so many times as long as expected."""


@dataclass(frozen=True)
class Draw:
    """Samples to draw, and the steps of each."""

    steps: int
    samples: int

    def __str__(self) -> str:
        parts = ((self.steps, "step"), (self.samples, "sample"))
        return " x ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in parts)


class Deadline:
    """When a scan should be done; its clock runs from when this is made.

    Args:
        seconds: the budget, at least 0.
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = seconds
        self.no_room = False
        self._clock = clock
        self._start = clock()
        self._step: float | None = None
        self._after = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 when it has passed."""
        return self.seconds - self.spent

    def encoded(self) -> None:
        """Take note that samples come next."""
        self._after = self.spent

    def allows(self, steps: int, step: Callable[[], object]) -> bool:
        """Return whether a sample of so many steps fits, and what comes after it.

        Args:
            step: does a step of a sample; it is timed the first time, where it fits at all.
        """
        if self._step is None and self._fits(0.0):
            before = self.spent
            step()
            self._step = self.spent - before
        return self._noted(self._step is not None and self._fits(steps * self._step))

    def between_samples(self, steps: int) -> Callable[[int], bool]:
        """Return what to ask after each sample of a set: whether there is time for another.

        The longest so far is what the next one is expected to take.
        """
        longest, before = 0.0, self.spent

        def go_on(_: int) -> bool:
            nonlocal longest, before
            took, before = self.spent - before, self.spent
            longest = max(longest, took)
            self._step = longest / steps
            return self._noted(self._fits(longest))

        return go_on

    def part(self, share: float) -> Deadline:
        """Return the deadline of a part of the work that begins now.

        Args:
            share: of what is left that the part may take, in (0, 1].
        """
        return Deadline(max(self.left, 0.0) * share, clock=self._clock)

    def record(self, drawn: Sequence[Mapping[str, Any]], stopped_because: str) -> dict[str, Any]:
        """Return what was spent and on what sets of samples, ready for JSON.

        Args:
            stopped_because: unless it was for want of time.
        """
        return {
            "seconds": self.seconds,
            "margin": MARGIN,
            "drawn": list(drawn),
            "stopped_because": "no room" if self.no_room else stopped_because,
            "spent_seconds": round(self.spent, 3),
        }

    def _fits(self, work: float) -> bool:
        return MARGIN * (work + self._after) <= self.left

    def _noted(self, fits: bool) -> bool:
        self.no_room = self.no_room or not fits
        return fits


def budget_line(record: Mapping[str, Any], seconds: float) -> str:
    """Return in a few words what a budget was spent on, and whether the seconds kept it."""
    drawn = " + ".join(str(Draw(row["steps"], row["samples"])) for row in record["drawn"])
    short = "; no time for more" if record["stopped_because"] == "no room" else ""
    over = "; exceeded" if seconds > record["seconds"] else ""
    return f"budget {record['seconds']:g} s: {drawn or 'no samples'}{short}{over}"
