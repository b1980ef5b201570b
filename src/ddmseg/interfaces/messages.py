"""What is said to the user when something goes wrong: one line each."""

from __future__ import annotations

import sys
import traceback

from ddmseg.errors import DdmsegError

_NO_MEMORY = ("can't allocate memory", "out of memory")
"""How torch says it, on the CPU and on a GPU."""


def reason_of(error: BaseException) -> str:
    """Return one line that says what happened; for an unexpected error how to see more."""
    told = " ".join(str(error).split())
    if isinstance(error, DdmsegError):
        return told
    if isinstance(error, MemoryError) or any(words in told for words in _NO_MEMORY):
        return "the memory is used up; close other programs, or crop or resample the scan"
    what = ": ".join(filter(None, (type(error).__name__, told)))
    return f"unexpected {what}; run again with --debug to see where"


def say(line: str) -> None:
    """Write a line of information to stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def say_error(error: BaseException, *, about: str = "", debug: bool = False) -> None:
    """Write the one line to stderr; with ``debug`` the traceback of an unexpected error too."""
    if debug and not isinstance(error, DdmsegError):
        traceback.print_exception(error, file=sys.stderr)
    reason = reason_of(error)
    # most reasons begin with the file they are about
    place = "" if not about or about in reason else f"{about}: "
    print(f"error: {place}{reason}", file=sys.stderr, flush=True)
