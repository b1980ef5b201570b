"""What is said to the user, a line each: results on stdout, all else on stderr.

Saying something never raises: work must not end because nobody can read of it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import Literal

from ddmseg.atomic import system_reason
from ddmseg.errors import DdmsegError, OutputError, printable

NOTICE = "research use, not for diagnosis"
"""What every file that a person may look at says of its use."""

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
    _write("stderr", line)


def show(line: str) -> bool:
    """Write a result to stdout; return whether whoever reads there can have got it."""
    return _write("stdout", line)


def say_error(error: BaseException, *, about: str = "", debug: bool = False) -> None:
    """Write the one line to stderr; with ``debug`` the traceback of an unexpected error too."""
    if debug and not isinstance(error, DdmsegError):
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
    reason = reason_of(error)
    # most reasons begin with the file they are about
    place = "" if not about or about in reason else f"{about}: "
    say(f"error: {place}{reason}")


def open_streams() -> None:
    """Put something in the place of standard streams that are closed.

    Otherwise the next file that is opened would be taken for one of them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def stdout_is_whole() -> bool:
    """Write what stdout still holds back; say where that fails, and return whether it did not."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        _let_go("stdout")
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            say_error(OutputError(f"stdout: {system_reason(error)}; not all of it was written"))
        return False  # whoever read a pipe and has gone had what it wanted
    return True


def _write(name: Literal["stdout", "stderr"], line: str) -> bool:
    stream = getattr(sys, name)
    if stream is None:
        return False
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        shown = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        print(shown, file=stream, flush=True)
    except (OSError, ValueError):  # a full disk, a reader that has gone, a closed stream
        _let_go(name)
        return False
    return True


def _let_go(name: Literal["stdout", "stderr"]) -> None:
    """Have nothing more come out of a stream: Python would try again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, getattr(sys, name).fileno())
        os.close(nowhere)
