"""Gzip files read with bounds on what they may cost.

Python's own reader skips padding one byte at a time and opens any number of members, so that a
megabyte keeps it busy for half a minute.

Source: RFC 1952.
"""

from __future__ import annotations

import gzip
import zlib
from typing import BinaryIO, Protocol

MAGIC = b"\x1f\x8b"
MAX_PADDING = 1 << 20  # zeros allowed behind the last member; tapes leave some
FREE_MEMBERS = 1024  # members allowed whatever they hold; bgzip makes one of each 64 KB
MEMBER_BYTES = 4096  # what every member above these must hold, on the average
_CHUNK = 1 << 16
_SAID = {
    "incorrect data check": "CRC check failed",
    "incorrect length check": "Incorrect length of data produced",
}


class Readable(Protocol):
    """A file or what is like one."""

    def read(self, most: int, /) -> bytes:
        """Return up to ``most`` bytes, and none at the end."""


class GzipStream:
    """Inflates a gzip file from its start, checking every member's sum and length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater: zlib._Decompress | None = None
        self._waiting = b""
        self._members = self._given = 0

    def read(self, most: int, /) -> bytes:
        """Return up to ``most`` bytes, none at the end.

        EOFError: the file stops in a member. BadGzipFile: it is damaged, padded or divided too
        much.
        """
        while self._inflater is not None or self._begins():
            if data := self._inflated(most):
                self._given += len(data)
                return data
            if self._inflater is not None and not self._waiting:
                self._waiting = self._file.read(_CHUNK)
                if not self._waiting:
                    raise EOFError("the gzip data stop early")
        return b""

    def _inflated(self, most: int) -> bytes:
        assert self._inflater is not None
        try:
            data = self._inflater.decompress(self._waiting, most)
        except zlib.error as error:
            said = next((s for part, s in _SAID.items() if part in str(error)), "")
            raise gzip.BadGzipFile(said or "the data do not inflate") from error
        self._waiting = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._waiting, self._inflater = self._inflater.unused_data, None
        return data

    def _begins(self) -> bool:
        """Skip padding and open the next member; False at the end of the file."""
        padding = 0
        while self._members:  # the first one begins the file
            padding += len(self._waiting)
            self._waiting = self._waiting.lstrip(b"\0")
            padding -= len(self._waiting)
            if self._waiting or padding > MAX_PADDING:
                break
            self._waiting = self._file.read(_CHUNK)
            if not self._waiting:
                return False
        if padding > MAX_PADDING:
            raise gzip.BadGzipFile(f"more than {MAX_PADDING} zeros behind the data")
        if self._members > FREE_MEMBERS and self._given < self._members * MEMBER_BYTES:
            raise gzip.BadGzipFile(f"cut into {self._members} members and more that hold nothing")
        self._members += 1
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return True
