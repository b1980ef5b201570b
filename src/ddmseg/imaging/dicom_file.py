"""One DICOM file as a pydicom data set, read within bounds.

pydicom inflates deflated files without limit and follows nested sequences as deep
as they go. Here sizes are checked first, only the named elements are kept, and
whatever goes wrong is one line. What identifies the patient is never asked for.

Source: DICOM PS3.10, section 7 (file format); PS3.5, annex A.5 (deflated syntax).
"""

from __future__ import annotations

import contextlib
import logging
import stat
import warnings
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ddmseg.errors import MissingExtraError, ScanError
from ddmseg.imaging.dicom_archive import ZipMember

if TYPE_CHECKING:
    from pydicom import Dataset

Source = Path | ZipMember
"""A DICOM file on the disk or in a zip archive."""

MAX_FILE_BYTES = 1 << 30
"""Bytes of the largest file that is opened."""
MAX_INFLATED_BYTES = 64 << 20
"""Bytes that a deflated file may inflate to."""
MAX_ELEMENT_BYTES = 64 << 20
"""Bytes of the largest element that is read for a header."""
MAX_READS = 200_000
"""Steps that parsing may take: some two for each element. An enhanced series of 300
slices takes 60 000; a few megabytes of empty items would take minutes without a limit."""
MAX_ITEMS = 100_000
"""Items in one sequence, at all depths."""

DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

_ITEM = b"\xfe\xff\x00\xe0"
_MAGIC_AT = 128
_META_GROUP = 0x0002


def pydicom_module() -> Any:
    """Return pydicom.

    Raises:
        MissingExtraError: when it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("pydicom", "dicom") from error
    return pydicom


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


def read_dataset(path: Source, keywords: Sequence[str] | None = None) -> Dataset:
    """Read a file.

    Args:
        path: of the file.
        keywords: of the elements to keep; the pixels are then left unread. All
            elements, with the pixels, when None.

    Raises:
        ScanError: when the file is absent, too large, no DICOM or damaged.
        MissingExtraError: when pydicom is not installed.
    """
    pydicom = pydicom_module()
    try:
        size = path.size if isinstance(path, ZipMember) else path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ScanError(
                f"{path}: {size} bytes; a DICOM file may have at most {MAX_FILE_BYTES}; "
                "convert it to NIfTI first"
            )
        with _open(path) as stream, quiet():
            return cast("Dataset", _parse(pydicom, stream, path, keywords))
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Source) -> BinaryIO:
    return path.open() if isinstance(path, ZipMember) else path.open("rb")


def _parse(pydicom: Any, stream: BinaryIO, path: Source, keywords: Sequence[str] | None) -> Any:
    try:
        source = _inflated(pydicom, stream, path)
        dataset = pydicom.dcmread(
            _Counted(source, path),
            force=True,  # is_dicom has looked; old files have no magic word
            stop_before_pixels=keywords is not None,
            specific_tags=None if keywords is None else list(keywords),
            defer_size=None if keywords is None else MAX_ELEMENT_BYTES,
        )
        for keyword in keywords or ():
            _check_element(dataset, keyword, path)
        return dataset
    except ScanError:
        raise
    except RecursionError as error:
        raise ScanError(
            f"{path}: sequences are nested too deep; the file is damaged or hostile"
        ) from error
    # a damaged file can make the parser raise anything
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own error, not one of pydicom's
        raise ScanError(
            f"{path}: damaged DICOM file ({type(error).__name__} while reading its header); "
            "export it again"
        ) from error


class _Counted:
    """A stream that ends the reading of what has too many elements."""

    def __init__(self, stream: BinaryIO, path: Source) -> None:
        self._stream, self._path, self._left = stream, path, MAX_READS
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read as the stream does, a limited number of times."""
        self._left -= 1
        if self._left < 0:
            raise _too_many(self._path)
        return self._stream.read(size)


def _check_element(dataset: Any, keyword: str, path: Source) -> None:
    """Check an element that pydicom left unparsed, before anything looks at its value."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    raw = getattr(element, "value", b"")
    if raw is None and getattr(element, "length", 0) > MAX_ELEMENT_BYTES:
        raise ScanError(
            f"{path}: {keyword} has {getattr(element, 'length', 0)} bytes; at most "
            f"{MAX_ELEMENT_BYTES} are read; the file is damaged or hostile"
        )
    if isinstance(raw, bytes) and raw.count(_ITEM) > MAX_ITEMS:
        raise _too_many(path)


def _too_many(path: Source) -> ScanError:
    return ScanError(f"{path}: too many elements for a scan; the file is damaged or hostile")


def _inflated(pydicom: Any, stream: BinaryIO, path: Source) -> BinaryIO:
    """The stream itself, or a deflated file inflated as far as is allowed."""
    start = stream.read(_MAGIC_AT + 4)
    stream.seek(0)
    if start[_MAGIC_AT:] != b"DICM":
        return stream
    stream.seek(_MAGIC_AT + 4)
    meta = pydicom.filereader.read_dataset(
        stream, False, True, stop_when=lambda tag, vr, length: tag.group != _META_GROUP
    )
    if str(meta.get("TransferSyntaxUID", "")) != DEFLATED:
        stream.seek(0)
        return stream
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(stream.read(), MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise ScanError(
            f"{path}: inflates to more than {MAX_INFLATED_BYTES} bytes; store it uncompressed first"
        )
    meta.TransferSyntaxUID = EXPLICIT_LITTLE
    plain = BytesIO()
    plain.write(start)
    meta = pydicom.dataset.FileMetaDataset(meta)
    pydicom.filewriter.write_file_meta_info(plain, meta, enforce_standard=False)
    plain.write(data)
    plain.seek(0)
    return plain
