"""The log of the node: a line of it can neither raise nor hold anything up."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from ddmseg.messages import say
from ddmseg.node.privacy import plain_reason

MOST_LINES = 10_000
"""Lines that wait while the log cannot take them; more are counted and left out."""
END_SECONDS = 5.0


class Log:
    """Hands lines to a thread of its own, which writes them.

    The disk of a log can be full, its terminal gone, or nobody may read the pipe behind it. What
    the node has acknowledged is segmented all the same, and the log says how many lines it lacks.

    Args:
        write: writes one line, and may raise or never return.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._lost = write, 0
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def __call__(self, line: str) -> None:
        """Have a line written soon."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Wait, not for long, until all lines are written."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=END_SECONDS)
        self._thread.join(END_SECONDS)

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                if self._lost:
                    self._write(f"{self._lost} lines of this log could not be written")
                    self._lost = 0
                self._write_plain(line)
            except Exception as error:
                self._lost += 1
                if self._lost == 1:  # it may be the log alone that is broken
                    with contextlib.suppress(Exception):
                        say(f"warning: cannot write the log: {plain_reason(error)}; going on")

    def _write_plain(self, line: str) -> None:
        try:
            self._write(line)
        except UnicodeError:  # a terminal that does not know the characters of a path
            self._write(line.encode("ascii", "backslashreplace").decode("ascii"))
