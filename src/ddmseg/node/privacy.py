"""Nothing that identifies a patient reaches a log: not from us, not from the libraries."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from ddmseg.errors import DdmsegError
from ddmseg.messages import reason_of

LIBRARIES = ("pydicom", "highdicom", "pynetdicom")
"""They quote element values, AE titles and whole data sets in messages."""

_UID = re.compile(r"\d+(?:\.\d+){4,}")


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Keep the DICOM libraries, and threads that end badly, from writing anything.

    ``ddmseg.imaging.dicom.file.quiet`` does so for one thread and one call; here
    several threads run at once, so the silence has to last as long as the node.
    """
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [logger.level for logger in loggers]
    hook = threading.excepthook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        threading.excepthook = _end_silently
        try:
            yield
        finally:
            threading.excepthook = hook
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _end_silently(arguments: threading.ExceptHookArgs) -> None:
    """Say nothing: the traceback of a library's thread may quote what was received."""


def plain_reason(error: BaseException, *folders: Path) -> str:
    """Return one line on what went wrong, without UIDs and without the paths of a spool.

    Of an unexpected error only the kind is told: its text may quote anything.

    >>> from ddmseg.errors import ScanError
    >>> plain_reason(ScanError("/spool/1.2.840.10008.1.5.dcm: damaged"), Path("/spool"))
    '(UID).dcm: damaged'
    """
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if not isinstance(error, DdmsegError | MemoryError | RuntimeError):
        return f"unexpected {type(error).__name__}"
    text = reason_of(error)
    if not isinstance(error, DdmsegError) and text.startswith("unexpected"):
        return f"unexpected {type(error).__name__}"
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return _UID.sub("(UID)", text)
