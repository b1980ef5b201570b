"""How much work an input may make, in proportion to the bytes that it takes on the disk.

A limit for each file does not bound what many small files cost together: thousands of
copies of one image, of files with thousands of frames, of headers that are nothing but
elements. An image takes some kilobytes; whoever asks for more work than that is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ddmseg.errors import ScanError

ALWAYS_ALLOWED = 250_000
"""What any input may cost, however small, in elements looked at: about half a second."""
BYTES_OF_EACH = 8
"""Bytes on the disk that allow one more: zipped slices of 64 x 64 pixels have some 5 KB, and
headers of 150 elements."""
LOOK_COST = 25
"""As how many elements a file counts that is opened to see what it is."""
FILE_COST = 300
"""As how many more a DICOM file counts; reading its pixels, to compare copies, as one more."""
FRAME_COST = 60
"""As how many more a frame of an enhanced file counts."""


@dataclass
class Effort:
    """What may still be spent on one folder, archive or file.

    Attributes:
        told: the name of the input in messages.
        left: in elements.
    """

    told: str
    left: float = field(default_factory=lambda: ALWAYS_ALLOWED)

    def allow(self, size: int) -> None:
        """Allow as much more as so many bytes on the disk are worth."""
        self.left += size / BYTES_OF_EACH

    def spend(self, cost: int) -> None:
        """Count something.

        Raises:
            ScanError: when the input costs more than it may.
        """
        self.left -= cost
        if self.left < 0:
            raise ScanError(
                f"{self.told}: more files, frames or elements than a scan of its size has, and "
                "they would take too long to read; it is damaged or hostile; give the files of "
                "one examination alone"
            )
