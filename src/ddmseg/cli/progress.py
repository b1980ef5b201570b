"""How far the work is: a bar on a terminal, plain lines elsewhere, both on stderr.

Neither shows a file name or anything else that could tell of a patient, and neither can
end the work that it tells of.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from ddmseg.messages import say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

STAGE_SHARES = {
    "read": 0.05,
    "prepare": 0.05,
    "encode": 0.30,
    "denoise": 0.35,
    "restore": 0.10,
    "write": 0.15,
}
"""About which share of a scan's time each stage takes, in order."""
LINE_EVERY_SECONDS = 30.0
"""Time between two plain lines of one piece of work."""


class Bar(Protocol):
    """Shows how much of one piece of work is done."""

    def update(self, done: float, text: str) -> None:
        """Show that ``done`` of the total is done, and what is going on."""


@contextlib.contextmanager
def progress_bar(total: float, *, start: float = 0.0, first_text: str = "start") -> Iterator[Bar]:
    """Show progress on stderr while the body runs; ``start`` was done by an earlier run."""
    terminal = False
    with contextlib.suppress(ValueError):  # closed
        terminal = sys.stderr is not None and sys.stderr.isatty()
    if not terminal:
        yield LineBar(total, start=start)
        return
    rich = _rich_progress()
    try:
        with contextlib.suppress(*_UNSHOWN):
            rich.start()
        yield RichBar(rich, total, start, first_text)
    finally:
        with contextlib.suppress(*_UNSHOWN):
            rich.stop()


_UNSHOWN = (OSError, ValueError)
"""What writing to a terminal that has gone, or that cannot show a character, may raise."""


class LineBar:
    """Prints a line at the start, now and then, and at the end."""

    def __init__(self, total: float, *, start: float = 0.0) -> None:
        self._total = total
        self._start = start
        self._began = time.monotonic()
        self._last = -LINE_EVERY_SECONDS

    def update(self, done: float, text: str) -> None:
        """Print a line when the last one is old."""
        now = time.monotonic()
        if now - self._last < LINE_EVERY_SECONDS and done < self._total:
            return
        self._last = now
        left = ""
        if self._start < done < self._total:
            seconds = (now - self._began) * (self._total - done) / (done - self._start)
            left = f", about {duration(seconds)} left"
        say(f"{text}{left}")


class RichBar:
    """A bar with percentage and the time left."""

    def __init__(self, rich: RichProgress, total: float, start: float, first_text: str) -> None:
        self._rich = rich
        self._task = cast("TaskID", 0)  # the only one, also where adding it could not be shown
        with contextlib.suppress(*_UNSHOWN):
            rich.add_task(first_text, total=total)
            rich.update(self._task, completed=start)

    def update(self, done: float, text: str) -> None:
        """Move the bar."""
        with contextlib.suppress(*_UNSHOWN):
            self._rich.update(self._task, completed=done, description=text)


def _rich_progress() -> RichProgress:
    from rich import progress as bars
    from rich.console import Console

    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        *(bars.BarColumn(), bars.TaskProgressColumn(), bars.TimeRemainingColumn()),
        bars.TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
        # what goes to a file or a pipe must not be caught for the terminal
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


class ScanProgress:
    """Turns stages of scans into one bar, several scans at a time; never goes backwards."""

    def __init__(self, bar: Bar, scans: int) -> None:
        self._bar = bar
        self._done = [0.0] * scans
        self._lock = threading.Lock()

    def begin(self, number: int) -> Callable[[str, float], None]:
        """Begin a scan, counted from 1; return what is told of its stages, from any thread.

        That takes a stage and the fraction of it done, in [0, 1].
        """
        self._show(number, "read", 0.0)
        return partial(self._show, number)

    def end(self, number: int) -> None:
        """A scan is done, well or not."""
        with self._lock:
            self._done[number - 1] = 1.0

    def _show(self, number: int, stage: str, fraction: float) -> None:
        before = 0.0
        with self._lock:
            for name, share in STAGE_SHARES.items():
                if name == stage:
                    # a second crop of one head begins anew, and a step that is timed counts
                    done = before + share * min(max(fraction, 0.0), 1.0)
                    self._done[number - 1] = max(self._done[number - 1], done)
                before += share
            text = f"scan {number} of {len(self._done)}: {stage}"
            self._bar.update(math.fsum(self._done), text)


def duration(seconds: float) -> str:
    """Return a time as a person says it.

    >>> duration(8.4), duration(95), duration(7300)
    ('8 s', '2 min', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
