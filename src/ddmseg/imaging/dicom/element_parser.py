"""The elements of a DICOM data set: where each lies, without taking it apart.

pydicom makes an object of every item, and it must do so for sequences that nobody asked for as
well, so a few megabytes of empty items keep it busy for minutes. Here elements are stepped over, a
limited number of them, before pydicom sees those that are wanted.

Source: DICOM PS3.5, 7.1 (data elements), 7.5 (nesting), A.4 (fragments of pixels).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol

from ddmseg.errors import ScanError

MAX_ELEMENTS = 100_000
"""Elements that a file may have, at all depths. Enhanced files take some 120 for each slice."""
ITEM_COST = 3  # as how many elements an item counts: pydicom makes a data set of each
MAX_DEPTH = 24  # sequences in sequences; enhanced files have four
MAX_FRAGMENTS = 50_000  # pieces that compressed pixels may come in; most files have one an image
PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF  # length of what ends with a delimiter
_PIXELS = frozenset((PIXEL_DATA, 0x7FE00008, 0x7FE00009))  # whole numbers, float, double
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = frozenset((_ITEM, _ITEM_END, _SEQUENCE_END))
_LONG = frozenset(b"OB OD OF OL OQ OV OW SQ SV UC UN UR UT UV".split())
_RAW = frozenset((b"OB", b"OW"))
_UNKNOWN = frozenset((b"", b"UN"))


class Stream(Protocol):
    """What is asked of a stream."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, or as many as there are."""

    def seek(self, offset: int, /) -> int:
        """Go to a place, counted from the start."""


class Element(NamedTuple):
    """One element; ``vr`` is empty when the file does not say.

    Places are bytes from the start of the stream. ``length`` is of the value, or ``UNDEFINED``;
    ``end`` is where the next one begins, of pixels without a length where the value does.
    """

    tag: int
    vr: bytes
    start: int
    value_at: int
    length: int
    end: int


_Level = Enum("_Level", ["SEQUENCE", "ITEM", "FRAGMENTS"])


class ElementParser:
    """Steps over the elements of one data set.

    ``explicit``: elements say of what kind their value is; one that does not, as some writers leave
    it, is read as pydicom reads it.
    """

    def __init__(
        self, stream: Stream, told: str, *, explicit: bool, big_endian: bool = False
    ) -> None:
        order = ">" if big_endian else "<"
        self._stream, self._told, self._explicit = stream, told, explicit
        self._short = struct.Struct(f"{order}HH2sH").unpack
        self._implicit = struct.Struct(f"{order}HHL").unpack
        self._length = struct.Struct(f"{order}L").unpack
        self._item_start = struct.pack(f"{order}HH", _ITEM >> 16, _ITEM & 0xFFFF)
        self._left = MAX_ELEMENTS

    @property
    def looked_at(self) -> int:
        """How many elements were stepped over, as they count."""
        return MAX_ELEMENTS - self._left

    def elements(self, start: int, *, group: int | None = None) -> Iterator[Element]:
        """Yield the elements of the first level up to the pixels, which come last.

        The stream may be moved between two of them. Too many or too deep ones are refused.
        """
        at = start
        while (element := self._head(at)) is not None:
            if group is not None and element.tag >> 16 != group:
                return
            at = element.end
            if element.length == UNDEFINED and element.tag not in _PIXELS:
                at = self._step_over(element)
                element = element._replace(end=at)
            yield element
            if element.tag in _PIXELS:
                return

    def look_into(self, element: Element) -> bool:
        """Say whether an element is a sequence; count what it holds if that was not done yet."""
        if element.length == UNDEFINED:
            return True
        if sequence := self._is_sequence(element):
            self._step_over(element)
        return sequence

    def _head(self, at: int) -> Element | None:
        """The element that begins at a place; None at the end of the file."""
        self._left -= 1
        if self._left < 0:
            raise hostile(self._told, f"too many elements for a scan, above {MAX_ELEMENTS}")
        self._stream.seek(at)
        raw = self._stream.read(8)
        if len(raw) < 8:
            return None
        group, number, length = self._implicit(raw)
        tag, vr, value_at = group << 16 | number, b"", at + 8
        if self._explicit and tag not in _DELIMITERS and b"AA" <= raw[4:6] <= b"ZZ":
            _, _, vr, length = self._short(raw)
            if vr in _LONG:
                rest = self._stream.read(4)
                if len(rest) < 4:
                    return None
                (length,), value_at = self._length(rest), at + 12
        end = value_at if length == UNDEFINED else value_at + length
        return Element(tag, vr, at, value_at, length, end)

    def _step_over(self, sequence: Element) -> int:
        """Step over what a sequence holds; return where it ends."""
        at = sequence.value_at
        levels = [_inside(sequence)]
        while levels:
            level, end = levels[-1]
            if end is not None and at >= end:
                levels.pop()
                continue
            element = self._head(at)
            if element is None:
                raise damaged(self._told, "cut off in a sequence")
            at = element.value_at
            if element.tag in (_ITEM_END, _SEQUENCE_END):
                levels.pop()
            elif element.tag == _ITEM:
                self._left -= ITEM_COST - 1
                if level is _Level.FRAGMENTS:
                    at = element.end
                else:
                    levels.append((_Level.ITEM, _known_end(element)))
            elif level is not _Level.ITEM:
                raise damaged(self._told, "no item in a sequence")
            elif element.length == UNDEFINED or self._is_sequence(element):
                levels.append(_inside(element))
            else:
                at = element.end
            if len(levels) > 2 * MAX_DEPTH:
                raise hostile(self._told, f"sequences are nested too deep, above {MAX_DEPTH}")
        return at

    def _is_sequence(self, element: Element) -> bool:
        """Whether pydicom may take a value of known length for a sequence."""
        from pydicom.datadict import dictionary_has_tag, dictionary_VR

        if element.vr == b"SQ":
            return True
        if element.vr not in _UNKNOWN or element.length < len(self._item_start):
            return False
        if dictionary_has_tag(element.tag):  # pydicom believes it, whatever the value begins with
            return dictionary_VR(element.tag) == "SQ"
        self._stream.seek(element.value_at)
        return self._stream.read(len(self._item_start)) == self._item_start


def damaged(told: str, reason: str, advice: str = "export it again") -> ScanError:
    """Return the refusal of a file that is broken."""
    return ScanError(f"{told}: damaged DICOM file ({reason}); {advice}")


def hostile(told: str, reason: str) -> ScanError:
    """Return the refusal of a file that no scanner writes."""
    return ScanError(f"{told}: {reason}; the file is damaged or hostile; leave it out")


def fragments_end(stream: Stream, start: int) -> int | None:
    """Return where compressed pixels end; None where the file ends before.

    Only the heads of at most ``MAX_FRAGMENTS`` pieces are read; what has more ends behind those.
    """
    at = start
    for _ in range(MAX_FRAGMENTS + 1):
        stream.seek(at)
        head = stream.read(8)
        if not head:
            return at  # some writers leave the delimiter out
        if len(head) < 8:
            return None
        group, number, length = struct.unpack("<HHL", head)
        at += 8
        if group << 16 | number != _ITEM:
            return at  # the end, or something that a decoder will complain about
        at += length
    return at


def _inside(element: Element) -> tuple[_Level, int | None]:
    level = _Level.FRAGMENTS if element.vr in _RAW else _Level.SEQUENCE
    return level, _known_end(element)


def _known_end(element: Element) -> int | None:
    return None if element.length == UNDEFINED else element.end
