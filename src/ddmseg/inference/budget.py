"""The clock of ``--budget``: asked between samples whether there is time for another.

What a machine needs was measured on it once (``Pace``); how fast it is just now the encoder
tells, and then every sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddmseg.errors import OutputError, SettingsError
from ddmseg.imaging.atomic import atomic_write
from ddmseg.inference.cache import cache_folder
from ddmseg.models.json_reader import read_json

VERSION = "2"
"""Of the way to measure a pace; to be raised when it or the work changes."""
MARGIN = 1.25
"""Work must fit when it takes so many times as long as expected."""
SLOWEST = 3.0
"""The small scan tells of no more slowness than this: it is short, and chance plays a part."""
WAS_BUSY = 1.5
"""A pace is measured anew where the small scan took so many times as long then as now."""


@dataclass(frozen=True)
class Draw:
    """Samples to draw, and the steps of each."""

    steps: int
    samples: int

    def __str__(self) -> str:
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        samples = "1 sample" if self.samples == 1 else f"{self.samples} samples"
        return f"{steps} x {samples}"


@dataclass(frozen=True)
class Pace:
    """Seconds a voxel that each part of the work takes one model on one machine.

    Attributes:
        prepare: a voxel of the scan, before the encoder.
        encode: a voxel of the model grid, the coarse answer included.
        step: a voxel of the grid on which samples are drawn, for each step of a sample.
        restore: a voxel of the scan.
        write: a voxel of the scan.
        probe: seconds of a small scan, which later tells how busy the machine is.
    """

    prepare: float
    encode: float
    step: float
    restore: float
    write: float
    probe: float

    def slowdown(self, probe: float) -> float:
        """Return how many times as slow the machine is when the small scan takes so long."""
        return probe / self.probe if self.probe > 0 else 1.0

    def finish(self, scan_voxels: int, *, writes: bool) -> float:
        """Return the seconds of all that comes after the network."""
        return (self.restore + self.write * writes) * scan_voxels

    @classmethod
    def read(cls, path: Path | None) -> Pace | None:
        """Return the pace in a file; None where it is missing, damaged or of another version."""
        try:
            numbers = read_json(path) if path else {}
            pace = cls(**{name: float(value) for name, value in numbers.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return pace if all(0 <= value < math.inf for value in asdict(pace).values()) else None

    def save(self, path: Path | None) -> None:
        """Keep it; what cannot be kept is measured again the next time."""
        if path is not None:
            with contextlib.suppress(OutputError), atomic_write(path) as partial:
                partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def pace_file(*depends: object) -> Path | None:
    """Return where a pace is kept, by a hash of what it depends on; None where nothing is kept.

    Args:
        *depends: weights, device, engine and threads; the processor is among them by itself.
    """
    folder = cache_folder()
    known = repr((VERSION, processor(), *depends))
    return folder and folder / f"pace-{hashlib.sha256(known.encode()).hexdigest()[:16]}.json"


def processor() -> str:
    """Return what tells this processor from others, and how many there are of it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.is_file() else []
    named = [line for line in lines if line.startswith("model name")]
    name = named[0].partition(":")[2].strip() if named else platform.processor()
    return f"{platform.machine()} {name} {os.cpu_count()}"


class Deadline:
    """When a scan must be done; its clock runs from when this is made.

    Args:
        seconds: the budget, above 0; of a part of the work not below 0.
        writes: whether writing the results belongs to the work.
        refuses: whether work that cannot be done in time is refused; else as little as
            possible is done.
        slowdown: how many times as slow as its pace the machine is, at least 1.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        seconds: float,
        *,
        writes: bool = False,
        refuses: bool = True,
        slowdown: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.seconds = seconds
        self.writes = writes
        self.slowdown = slowdown
        self.no_room = False
        self._refuses = refuses
        self._clock = clock
        self._start = clock()
        self._step = self._after = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 when it has passed."""
        return self.seconds - self.spent

    def require(self, ahead: float) -> None:
        """Refuse a budget in which the least work does not fit.

        Args:
            ahead: seconds of it, at the machine's pace.

        Raises:
            SettingsError: names the smallest budget that can be met.
        """
        smallest = self.spent + MARGIN * self.slowdown * ahead
        if self._refuses and smallest > self.seconds:
            rounded = math.ceil(smallest * 10) / 10
            raise SettingsError(
                f"budget: got {self.seconds:g} s; this scan needs at least {rounded:.1f} s here: "
                f"give --budget {rounded:.1f} or more, or a smaller scan"
            )

    def encoded(self, *, slowdown: float, step: float, after: float) -> None:
        """Take what encoding told of the machine and of the scan.

        Args:
            slowdown: how many times as long as at its pace it took; less than 1 tells nothing.
            step: seconds of a step of a sample, at the machine's pace.
            after: seconds of all that comes after the samples, at its pace.
        """
        self.slowdown = max(self.slowdown, slowdown)
        self._step, self._after = self.slowdown * step, self.slowdown * after

    def allows(self, steps: int) -> bool:
        """Say whether there is time for a sample of so many steps, and to finish behind it."""
        fits = MARGIN * (steps * self._step + self._after) <= self.left
        self.no_room = self.no_room or not fits
        return fits

    def between_samples(self, steps: int) -> Callable[[int], bool]:
        """Return what to ask after each sample of a set: whether there is time for another.

        The longest so far is what the next one is expected to take; where samples become
        longer, so does what comes after them.
        """
        longest, before = 0.0, self.spent

        def go_on(_: int) -> bool:
            nonlocal longest, before
            took, before = self.spent - before, self.spent
            if longest and took > longest:
                self._after *= took / longest
            longest = max(longest, took)
            self._step = longest / steps
            return self.allows(steps)

        return go_on

    def part(self, share: float, *, reserve: float) -> Deadline:
        """Return the deadline of a part of the work that begins now, writes and refuses nothing.

        Args:
            share: of what is left that the part may take, in (0, 1].
            reserve: seconds to keep for what comes after all parts, at the machine's pace.
        """
        seconds = max(self.left - MARGIN * self.slowdown * reserve, 0.0) * share
        return Deadline(seconds, refuses=False, slowdown=self.slowdown, clock=self._clock)

    def record(self, drawn: Sequence[Mapping[str, Any]], stopped_because: str) -> dict[str, Any]:
        """Return what was spent and on what, ready for JSON.

        Args:
            drawn: the sets of samples.
            stopped_because: unless it was for want of time.
        """
        return {
            "seconds": self.seconds,
            "margin": MARGIN,
            "covers": "reading to writing" if self.writes else "everything but writing",
            "slowdown": round(self.slowdown, 3),
            "drawn": list(drawn),
            "stopped_because": "no room" if self.no_room else stopped_because,
            "spent_seconds": round(self.spent, 3),
        }


def told(record: Mapping[str, Any]) -> str:
    """Say in a few words what a budget was spent on, and whether time was short.

    Args:
        record: of :meth:`Deadline.record`.
    """
    drawn = " + ".join(str(Draw(row["steps"], row["samples"])) for row in record["drawn"])
    short = "; no time for more" if record["stopped_because"] == "no room" else ""
    return f"budget {record['seconds']:g} s: {drawn or 'no samples'}{short}"
