"""How much work an input may make: what it inflates to, and how many elements are looked at.

A deflated DICOM file or a member of a zip archive can hold a thousand times what it takes on the
disk. The header is at its beginning and is small, so that much is inflated to look at it; the
pixels are inflated as far as the header promises.

A limit for each file does not bound what many small files cost together: thousands of copies of one
image, of files with thousands of frames, of headers that are nothing but elements. An image takes
some kilobytes; whoever asks for more work than that is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.element_parser import Stream, hostile

CHUNK_BYTES = 1 << 16  # bytes that are inflated at a time: the header of most images
MAX_RATIO = 50  # how many times its own size a file or an archive may inflate to; scans reach 10
ALWAYS_ALLOWED_BYTES = 64 << 20  # what inflates to no more than this may do so at any ratio


def inflated(stream: Stream, told: str) -> Iterator[bytes]:
    """Yield what a deflated stream holds, from where it stands, bounded by its size."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    taken = given = 0
    pending = b""
    while not inflater.eof:
        if not pending:
            pending = stream.read(CHUNK_BYTES)
            taken += len(pending)
            if not pending:
                raise ScanError(f"{told}: the deflated content is cut off; export it again")
        try:
            piece = inflater.decompress(pending, CHUNK_BYTES)
        except zlib.error as error:
            raise ScanError(f"{told}: the deflated content is damaged; export it again") from error
        pending = inflater.unconsumed_tail
        given += len(piece)
        if given > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * taken):
            raise ScanError(
                f"{told}: inflates to more than {MAX_RATIO} times its size; the file is damaged or "
                "hostile; store it uncompressed first"
            )
        yield piece


class InflatedStream:
    """A stream of chunks that are asked for when needed, and kept: at most ``limit`` bytes."""

    def __init__(self, chunks: Iterator[bytes], limit: int, told: str) -> None:
        self._chunks, self.limit, self._told = chunks, limit, told
        self._kept = bytearray()
        self._at = 0

    def seek(self, offset: int, /) -> int:
        """Go to a place, counted from the start; nothing is inflated yet."""
        self._at = offset
        return offset

    def read(self, size: int, /) -> bytes:
        """Return so many bytes; fewer at the end."""
        end = self._fill(self._at + size)
        with memoryview(self._kept) as kept:
            piece = bytes(kept[self._at : end])
        self._at += len(piece)
        return piece

    def _fill(self, wanted: int) -> int:
        """Inflate up to a place; return it, or where the content ends before it."""
        while len(self._kept) < wanted:
            if len(self._kept) > self.limit:
                told = f"inflates to more than {self.limit} bytes where no more are expected"
                raise hostile(self._told, told)
            chunk = next(self._chunks, None)
            if chunk is None:
                return len(self._kept)
            self._kept += chunk
        return wanted


ALWAYS_ALLOWED = 250_000
"""What any input may cost, however small, in elements looked at: about half a second."""
BYTES_OF_EACH = 8
"""Bytes on the disk that allow one more: zipped slices of 64 x 64 pixels have some 5 KB, and
headers of 150 elements."""
LOOK_COST = 25  # as how many elements a file counts that is opened to see what it is
FILE_COST = 300
"""As how many more a DICOM file counts; reading its pixels, to compare copies, as one more."""
FRAME_COST = 60  # as how many more a frame of an enhanced file counts


@dataclass
class Effort:
    """What may still be spent on one folder, archive or file."""

    told: str
    left: float = field(default_factory=lambda: ALWAYS_ALLOWED)

    def allow(self, size: int) -> None:
        """Allow as much more as so many bytes on the disk are worth."""
        self.left += size / BYTES_OF_EACH

    def spend(self, cost: int) -> None:
        """Count something, and refuse the input when it costs more than it may."""
        self.left -= cost
        if self.left < 0:
            raise ScanError(
                f"{self.told}: more files, frames or elements than a scan of its size has, and "
                "they would take too long to read; it is damaged or hostile; give the files of "
                "one examination alone"
            )
