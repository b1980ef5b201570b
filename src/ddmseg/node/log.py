"""The log of the node: no line raises, holds anything up, or identifies a patient."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from ddmseg.errors import DdmsegError
from ddmseg.messages import reason_of, say

MOST_LINES = 10_000
"""Lines that wait while the log cannot take them; more are counted and left out."""
END_SECONDS = 5.0
LIBRARIES = ("pydicom", "highdicom", "pynetdicom")
"""They quote element values, AE titles and whole data sets in messages."""

_UID = re.compile(r"\d+(?:\.\d+){4,}")


class Log:
    """Hands lines to a thread of its own, which writes them; ``write`` may raise or never return.

    The disk of a log can be full, its terminal gone, or nobody may read the pipe behind it. What
    the node has acknowledged is segmented all the same, and the log says how many lines it lacks.
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
                try:
                    self._write(line)
                except UnicodeError:  # a terminal that does not know the characters of a path
                    self._write(line.encode("ascii", "backslashreplace").decode("ascii"))
            except Exception as error:
                self._lost += 1
                if self._lost == 1:  # it may be the log alone that is broken
                    with contextlib.suppress(Exception):
                        say(f"warning: cannot write the log: {plain_reason(error)}; going on")


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Keep the DICOM libraries, and threads that end badly, from writing anything.

    ``ddmseg.imaging.dicom.file.quiet`` does so for one thread and one call; here
    several threads run at once, so the silence has to last as long as the node.
    """
    before = {name: logging.getLogger(name).level for name in LIBRARIES}
    hook = threading.excepthook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in before:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        # the traceback of a library's thread may quote what was received
        threading.excepthook = lambda arguments: None
        try:
            yield
        finally:
            threading.excepthook = hook
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def plain_reason(error: BaseException, *folders: Path) -> str:
    """Return one line on what went wrong, without UIDs and without the paths of a spool.

    Of an unexpected error only the kind is reported: its text may quote anything.

    >>> from ddmseg.errors import ScanError
    >>> plain_reason(ScanError("/spool/1.2.840.10008.1.5.dcm: damaged"), Path("/spool"))
    '(UID).dcm: damaged'
    """
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = reason_of(error)
    known = isinstance(error, MemoryError | RuntimeError) and not text.startswith("unexpected")
    if not (known or isinstance(error, DdmsegError)):
        return f"unexpected {type(error).__name__}"
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return _UID.sub("(UID)", text)
