"""The files of a zip archive, inflated as far as they are read and never unpacked to disk.

What an archive promises is checked before anything is inflated: the directory's size, names, kinds
and sizes of members, and how far they inflate. Of each member the header is inflated for a list,
and all headers together within bounds too. Names of members are never told, for they are often
those of patients.

Source: PKWARE APPNOTE 6.3, 4.3.12 to 4.3.16 (central directory and its end).
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.bounds import ALWAYS_ALLOWED_BYTES, CHUNK_BYTES, MAX_RATIO

MAX_DIRECTORY_BYTES = 16 << 20  # bytes of the largest list of members that is looked at
MAX_ARCHIVE_BYTES = 4 << 30  # bytes that all members may inflate to
MAX_MEMBER_BYTES = 288 << 20
"""Bytes that one member may inflate to: the largest volume that is accepted, in 16 bits, and the
largest header."""
HEADER_BYTES, HEADER_BYTES_OF_EACH = 128 << 20, 2 << 20
"""Bytes that all members may inflate to while their headers are read, and as much more for each
member. Classic slices take 0.1 to 0.3 MB, enhanced files some MB."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_ENTRY = b"PK\x01\x02"
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_END_BYTES = 22
_LONGEST_TAIL = 65_535 + _END_BYTES + 20 + 56  # comment, end, and both records of ZIP64


@dataclass
class _Allowance:
    """Bytes that all members may still inflate to for their headers."""

    left: int


@dataclass(frozen=True)
class ZipMember:
    """One file of an archive, known by its number; the archive stays open while one is in use.

    ``size`` is what it inflates to, ``stored_size`` what it takes in the archive.
    """

    archive: Path
    number: int
    size: int
    stored_size: int
    name: str = field(repr=False, compare=False)
    _zip: zipfile.ZipFile = field(repr=False, compare=False)
    _info: zipfile.ZipInfo = field(repr=False, compare=False)
    _allowance: _Allowance = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.archive}, member {self.number}"

    def close(self) -> None:
        """Close the archive, for all of its members."""
        self._zip.close()

    def start(self, count: int) -> bytes:
        """Return the first bytes."""
        return next(self.chunks(count), b"")

    def chunks(self, size: int = CHUNK_BYTES, *, header: bool = False) -> Generator[bytes]:
        """Yield the file, and check its sum at the end; ``header``: it counts as a header's."""
        try:
            with self._zip.open(self._info) as stream:
                while chunk := stream.read(size):
                    self._allowance.left -= len(chunk) if header else 0
                    if self._allowance.left < 0:
                        raise _hostile(self.archive, "the headers of its files are too large")
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise ScanError(f"{self}: damaged or cut off; copy the archive again") from error


def archive_members(path: Path, *, max_files: int) -> list[ZipMember]:
    """Return the files of a zip archive, in the order of its list, unread.

    One that is damaged, too large, encrypted, compressed in an uncommon way, or that holds links or
    paths that lead out of it, is refused.
    """
    try:
        _check_directory(path, max_files)
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ScanError(f"{path}: damaged zip archive; copy or download it again") from error
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error})") from error
    infos = opened.infolist()
    try:
        _check_infos(path, infos, max_files)
    except ScanError:
        opened.close()
        raise
    allowance = _Allowance(HEADER_BYTES + HEADER_BYTES_OF_EACH * len(infos))
    return [
        ZipMember(
            *(path, number, info.file_size, info.compress_size, info.filename.split("/")[-1]),
            *(opened, info, allowance),
        )
        for number, info in enumerate(infos, start=1)
        if not info.is_dir()
    ]


def _check_infos(path: Path, infos: list[zipfile.ZipInfo], max_files: int) -> None:
    if len(infos) > max_files:
        raise _too_many(path, max_files)
    for number, info in enumerate(infos, start=1):
        _check_info(f"{path}, member {number}", info)
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise _hostile(path, "its files share their bytes")
    total = sum(info.file_size for info in infos)
    if total > MAX_ARCHIVE_BYTES:
        raise _hostile(path, f"it inflates to {total} bytes and {MAX_ARCHIVE_BYTES} are allowed")
    if total > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size):
        raise _hostile(path, f"it inflates to more than {MAX_RATIO} times its size")


def _check_info(told: str, info: zipfile.ZipInfo) -> None:
    unpack = "; unpack the archive and give the folder"
    for refused, reason in (
        (
            _leads_out(info.filename),
            "its path leads out of the archive; it is hostile; zip the folder of the scan again",
        ),
        (stat.S_ISLNK(info.external_attr >> 16), "a link, not a file; zip the files themselves"),
        (info.flag_bits & _ENCRYPTED, f"protected by a password{unpack}"),
        (info.compress_type not in _METHODS, f"compressed in a way that is not read here{unpack}"),
        (
            info.file_size > MAX_MEMBER_BYTES,
            f"inflates to {info.file_size} bytes; at most {MAX_MEMBER_BYTES} are allowed{unpack}",
        ),
    ):
        if refused:
            raise ScanError(f"{told}: {reason}")


def _leads_out(name: str) -> bool:
    r"""Whether a name is absolute or climbs, read as POSIX and as Windows read it.

    >>> [_leads_out(name) for name in ("a/b.dcm", "../a", r"a\..\b", "/etc/x", "C:x", "a..b")]
    [False, True, True, True, True, False]
    """
    parts = re.split(r"[/\\]", name)
    return parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name) is not None


def _hostile(path: Path, reason: str) -> ScanError:
    return ScanError(
        f"{path}: {reason}; the archive is damaged or hostile; unpack it and give the folder"
    )


def _too_many(path: Path, max_files: int) -> ScanError:
    return ScanError(f"{path}: more than {max_files} files; zip one examination at a time")


def _check_directory(path: Path, max_files: int) -> None:
    """Check the list of members, of which zipfile would read any number."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _LONGEST_TAIL))
        length = _directory_bytes(stream.read(_LONGEST_TAIL))
        if length > MAX_DIRECTORY_BYTES:
            raise _hostile(path, f"its list of members is above {MAX_DIRECTORY_BYTES} bytes")
        # the number that the archive tells is not believed, here or by zipfile
        stream.seek(max(0, size - _LONGEST_TAIL - length))
        if stream.read().count(_ENTRY) > max_files:
            raise _too_many(path, max_files)


def _directory_bytes(tail: bytes) -> int:
    """Bytes of the central directory, as the last bytes of an archive tell."""
    # where there is no comment the end stands at the very end, whatever its numbers spell
    plain = len(tail) - _END_BYTES
    at = plain if tail[plain:].startswith(_END) and plain >= 0 else tail.rfind(_END)
    if at < 0:
        raise zipfile.BadZipFile
    (length,) = struct.unpack_from("<L", tail, at + 12)
    wide = tail.rfind(_END_64, 0, at)
    if wide >= 0:
        (wide_length,) = struct.unpack_from("<Q", tail, wide + 40)
        return int(max(wide_length, length if length != 0xFFFFFFFF else 0))
    return int(length)
