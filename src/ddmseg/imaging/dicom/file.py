"""One DICOM file as a pydicom data set, read within bounds.

pydicom inflates deflated files without limit and follows nested sequences as deep as they go. Here
elements are counted and measured first, pydicom is given those alone that were asked for, pixels
are read as far as the header promises them, and whatever goes wrong is one line. What identifies
the patient is never asked for.

Source: DICOM PS3.10, section 7 (file format); PS3.5, annex A.5 (deflated syntax).
"""

from __future__ import annotations

import contextlib
import logging
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg.errors import DdmsegError, ScanError, optional
from ddmseg.imaging.dicom import element_parser as parsing
from ddmseg.imaging.dicom.archive import ZipMember
from ddmseg.imaging.dicom.bounds import FILE_COST, Effort, InflatedStream, inflated
from ddmseg.imaging.dicom.element_parser import PIXEL_DATA, UNDEFINED, Element, ElementParser
from ddmseg.imaging.dicom.elements import printable

if TYPE_CHECKING:
    from pydicom import Dataset

Source = Path | ZipMember  # a DICOM file on the disk or in a zip archive
MAX_FILE_BYTES = 1 << 30  # bytes of the largest file that is opened
MAX_HEADER_BYTES = 32 << 20
"""Bytes of the elements that are read of a header, and of all before the pixels where they must be
inflated. Enhanced files of 1000 slices have some 5 MB."""
MAX_VALUE_BYTES = 1 << 16  # bytes of an element that is read and is no sequence
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE, EXPLICIT_BIG = f"{IMPLICIT_LITTLE}.1", f"{IMPLICIT_LITTLE}.2"
UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)
_LARGE = "its header is above {} bytes where a scan's is not"
_MAGIC_AT, _LONGEST_UID = 128, 64
_META_GROUP, _TRANSFER_SYNTAX, _CHARACTER_SET = 0x0002, 0x00020010, 0x00080005


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom and highdicom from warning and logging.

    They quote values that break the standard, and a patient's name may be among them.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def refused(told: str, doing: str, advice: str = "export it again") -> Iterator[None]:
    """Turn whatever pydicom and highdicom throw at a damaged file into one refusal.

    Damaged elements can make them raise anything, and their texts quote values, a patient's name
    perhaps among them; so the kind of error is told, what failed ("reading its header") and no
    more.
    """
    try:
        with quiet():
            yield
    except (DdmsegError, OSError):
        raise
    except Exception as error:
        raise parsing.damaged(told, f"{type(error).__name__} while {doing}", advice) from error


def is_dicom(path: Source) -> bool:
    """Say whether a file begins as DICOM does, with the magic word or, as of old, without.

    What is no regular file, or cannot be opened, is not DICOM.
    """
    start = _start(path)
    if start[_MAGIC_AT:] == b"DICM":
        return True
    # without a preamble the first element is one of the first of group 0008
    return len(start) > 8 and start[:2] == b"\x08\x00" and start[2] < 0x20 and start[3] == 0


def _start(path: Source) -> bytes:
    if isinstance(path, ZipMember):
        return path.start(_MAGIC_AT + 4)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as stream:
            return stream.read(_MAGIC_AT + 4)
    except OSError:
        return b""


def read_dataset(path: Source, keywords: Sequence[str], *, told: str = "") -> Dataset:
    """Read elements of a header, and the transfer syntax; the rest and the pixels are passed over.

    ``told`` is what the file is called in messages; its path when it is left out. Names of exported
    files are often those of patients. What is absent, too large, no DICOM or damaged is refused.
    """
    return read_header_elements(path, keywords, told=told)[0]


def read_start(start: bytes, keywords: Sequence[str], *, told: str) -> Dataset:
    """Read elements as :func:`read_dataset` does, from the first bytes of a file."""
    pydicom = optional("pydicom", "dicom")
    tags = {pydicom.datadict.tag_for_keyword(keyword) for keyword in keywords}
    content = _content(BytesIO(start), told)
    wanted, _ = _collect(content, tags, told)
    return _parsed(pydicom, wanted, content, told)


@dataclass(frozen=True)
class StoredPixels:
    """What a file has of its pixels, told by the lengths in it and not by reading them.

    ``length`` is the bytes that are there, of compressed ones with what is between them; None where
    that cannot be told without inflating. ``ended``: all are there that the element promises.
    """

    length: int | None
    ended: bool = True


def read_header_elements(
    path: Source,
    keywords: Sequence[str],
    *,
    told: str = "",
    effort: Effort | None = None,
    most: int = 0,
) -> tuple[Dataset, StoredPixels]:
    """Read elements of a header as :func:`read_dataset` does; say what there is of pixels.

    ``effort`` is what may be spent on it; what other headers cost counts too. Where ``most`` is
    above 0 the pixels are among the elements, and may have so many bytes as they are stored; there
    are none when the file ends before them.
    """
    pydicom, told = optional("pydicom", "dicom"), told or str(path)
    tags = {_CHARACTER_SET, *(pydicom.datadict.tag_for_keyword(keyword) for keyword in keywords)}
    try:
        size = path.size if isinstance(path, ZipMember) else path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ScanError(
                f"{told}: {size} bytes; a DICOM file may have at most {MAX_FILE_BYTES}; "
                "convert it to NIfTI first"
            )
        with _open(path, told, header=most == 0) as stream:
            content = _content(stream, told)
            wanted, pixels = _collect(content, tags, told, effort)
            stored = _stored(content, pixels, size)
            data = _pixel_bytes(content, pixels, most, told) if pixels and most else None
    except OSError as error:
        raise ScanError(f"{told}: cannot be read ({error.strerror or error})") from error
    dataset = _parsed(pydicom, wanted, content, told)
    if pixels is not None and data is not None:
        with refused(told, "reading its pixels"):
            kind = pixels.vr.decode() if pixels.vr in (b"OB", b"OW") else "OW"
            value = pydicom.DataElement(PIXEL_DATA, kind, data)
            value.is_undefined_length = pixels.length == UNDEFINED
            dataset.add(value)
    return dataset, stored


def _stored(content: _Content, pixels: Element | None, size: int) -> StoredPixels:
    """What there is of the pixels, in a file or member of an archive of that size."""
    if pixels is None:
        return StoredPixels(0)
    if content.deflated:
        return StoredPixels(None)
    there = max(0, size - pixels.value_at)
    if pixels.length != UNDEFINED:
        return StoredPixels(min(pixels.length, there), pixels.length <= there)
    if isinstance(content.stream, InflatedStream):
        return StoredPixels(None)
    end = parsing.fragments_end(content.stream, pixels.value_at)
    return StoredPixels(there, end is not None and end <= size)


@contextlib.contextmanager
def _open(path: Source, told: str, *, header: bool) -> Iterator[parsing.Stream]:
    if isinstance(path, ZipMember):
        with contextlib.closing(path.chunks(header=header)) as chunks:
            yield InflatedStream(chunks, MAX_HEADER_BYTES, told)
    else:
        with path.open("rb") as stream:
            yield stream


@dataclass(frozen=True)
class _Content:
    """Where the data set of a file is, and how it is encoded."""

    stream: parsing.Stream
    start: int
    syntax: str
    explicit: bool
    deflated: bool
    big_endian: bool


def _content(stream: parsing.Stream, told: str) -> _Content:
    """Find the data set behind the meta group; one that is deflated gets a stream of its own."""
    magic = stream.read(_MAGIC_AT + 4)[_MAGIC_AT:] == b"DICM"
    start, syntax = _MAGIC_AT + 4 if magic else 0, ""
    for element in ElementParser(stream, told, explicit=True).elements(start, group=_META_GROUP):
        start = element.end
        if element.tag == _TRANSFER_SYNTAX:
            stream.seek(element.value_at)
            value = stream.read(min(element.length, _LONGEST_UID))
            syntax = printable(value.decode("ascii", "replace"))
    stream.seek(start)
    deflated = syntax == DEFLATED
    if deflated:
        if isinstance(stream, InflatedStream):
            stream.limit = MAX_FILE_BYTES  # the limit is on what comes out in the end
        stream = InflatedStream(inflated(stream, told), MAX_HEADER_BYTES, told)
        start, syntax = 0, EXPLICIT_LITTLE
    # what the first element looks like counts for more than what the file says, as in pydicom
    kind = stream.read(6)[4:]
    explicit = len(kind) == 2 and all(0x40 < letter < 0x5B for letter in kind)
    syntax = syntax or (EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE)
    return _Content(stream, start, syntax, explicit, deflated, syntax == EXPLICIT_BIG)


def _collect(
    content: _Content, tags: set[int], told: str, effort: Effort | None = None
) -> tuple[bytes, Element | None]:
    """The elements that are wanted, as they are stored, and where the pixels are."""
    stream = content.stream
    parser = ElementParser(stream, told, explicit=content.explicit, big_endian=content.big_endian)
    wanted, pixels = BytesIO(), None
    for element in parser.elements(content.start):
        if element.tag == PIXEL_DATA:
            pixels = element
            break
        if element.tag not in tags:
            continue
        if wanted.tell() + element.end - element.start > MAX_HEADER_BYTES:
            raise parsing.hostile(told, _LARGE.format(MAX_HEADER_BYTES))
        if not parser.look_into(element) and element.length > MAX_VALUE_BYTES:
            raise parsing.hostile(told, _LARGE.format(MAX_VALUE_BYTES))
        stream.seek(element.start)
        stored = stream.read(element.end - element.start)
        if len(stored) < element.end - element.start:
            raise parsing.damaged(told, "cut off in its header")
        wanted.write(stored)
    if effort is not None:
        effort.spend(FILE_COST + parser.looked_at)
    return wanted.getvalue(), pixels


def _pixel_bytes(content: _Content, element: Element, most: int, told: str) -> bytes:
    """The pixels as they are stored; compressed ones with all that follows."""
    if most < element.length < UNDEFINED:
        raise too_many_pixels(told, most)
    stream = content.stream
    if isinstance(stream, InflatedStream):
        stream.limit = element.value_at + most
    stream.seek(element.value_at)
    data = stream.read(min(element.length, most + 1))
    if len(data) > most:
        raise too_many_pixels(told, most)
    return data


def too_many_pixels(told: str, most: int) -> ScanError:
    """Return the refusal of a file that has more pixels than its header promises."""
    return ScanError(
        f"{told}: more than {most} bytes of pixels where its header promises fewer; the file "
        "is damaged or hostile; export it again"
    )


def _parsed(pydicom: Any, wanted: bytes, content: _Content, told: str) -> Dataset:
    with refused(told, "reading its header"):
        dataset: Dataset = pydicom.filereader.read_dataset(
            BytesIO(wanted), not content.explicit, not content.big_endian
        )
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(content.syntax)
        return dataset
