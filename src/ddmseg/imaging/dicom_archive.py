"""The files of a zip archive, read one by one into memory and never unpacked to disk.

What an archive promises is checked before anything is inflated: the directory's
size, names, kinds and sizes of members, and how far they inflate. Names of members
are never told, for they are often those of patients.

Source: PKWARE APPNOTE 6.3, 4.3.12 to 4.3.16 (central directory and its end).
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from ddmseg.errors import ScanError

MAX_DIRECTORY_BYTES = 16 << 20
"""Bytes of the largest list of members that is read: some 100 000 members."""
MAX_ARCHIVE_BYTES = 4 << 30
"""Bytes that all members may inflate to."""
MAX_MEMBER_BYTES = 192 << 20
"""Bytes that one member may inflate to: an enhanced file of 350 slices of 512 x 512."""
MAX_RATIO = 200
"""How many times its own size an archive may inflate to; scans reach 10."""
ALWAYS_ALLOWED_BYTES = 64 << 20
"""Archives that inflate to no more than this may do so at any ratio."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_END_BYTES = 22
_LONGEST_TAIL = 65_535 + _END_BYTES + 20 + 56  # comment, end, and both records of ZIP64


@dataclass(frozen=True)
class ZipMember:
    """One file of an archive, known by its number in the archive's list.

    The archive stays open for as long as one of its members is in use.
    """

    archive: Path
    number: int
    size: int
    name: str = field(repr=False, compare=False)
    _zip: zipfile.ZipFile = field(repr=False, compare=False)
    _info: zipfile.ZipInfo = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.archive}, member {self.number}"

    def start(self, count: int) -> bytes:
        """Return the first bytes.

        Raises:
            ScanError: when the archive is damaged.
        """
        return self._read(count)

    def open(self) -> BytesIO:
        """Return the whole file in memory, its checksum checked.

        Raises:
            ScanError: when the archive is damaged.
        """
        return BytesIO(self._read(-1))

    def _read(self, count: int) -> bytes:
        try:
            with self._zip.open(self._info) as stream:
                return stream.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise ScanError(f"{self}: damaged or cut off; copy the archive again") from error


def archive_members(path: Path, *, max_files: int) -> list[ZipMember]:
    """Return the files of a zip archive, in the order of its list, unread.

    Raises:
        ScanError: when the archive is damaged, too large, encrypted, compressed in
            an uncommon way, or holds links or paths that lead out of it.
    """
    try:
        if _directory_bytes(path) > MAX_DIRECTORY_BYTES:
            raise _hostile(path, f"its list of members is above {MAX_DIRECTORY_BYTES} bytes")
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
    return [
        ZipMember(path, number, info.file_size, info.filename.split("/")[-1], opened, info)
        for number, info in enumerate(infos, start=1)
        if not info.is_dir()
    ]


def _check_infos(path: Path, infos: list[zipfile.ZipInfo], max_files: int) -> None:
    if len(infos) > max_files:
        raise ScanError(f"{path}: more than {max_files} files; zip one examination at a time")
    for number, info in enumerate(infos, start=1):
        _check_info(f"{path}, member {number}", info)
    total = sum(info.file_size for info in infos)
    if total > MAX_ARCHIVE_BYTES:
        raise _hostile(path, f"it inflates to {total} bytes and {MAX_ARCHIVE_BYTES} are allowed")
    if total > max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size):
        raise _hostile(path, f"it inflates to more than {MAX_RATIO} times its size")


def _check_info(told: str, info: zipfile.ZipInfo) -> None:
    if _leads_out(info.filename):
        raise ScanError(
            f"{told}: its path leads out of the archive; the archive is hostile; zip the folder "
            "of the scan again"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ScanError(f"{told}: a link, not a file; zip the files themselves")
    if info.flag_bits & _ENCRYPTED:
        raise ScanError(f"{told}: protected by a password; unpack the archive and give the folder")
    if info.compress_type not in _METHODS:
        raise ScanError(
            f"{told}: compressed in a way that is not read here; unpack the archive and give "
            "the folder"
        )
    if info.file_size > MAX_MEMBER_BYTES:
        raise ScanError(
            f"{told}: inflates to {info.file_size} bytes; at most {MAX_MEMBER_BYTES} are allowed "
            "in an archive; unpack it and give the folder"
        )


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


def _directory_bytes(path: Path) -> int:
    """Bytes of the central directory: zipfile would read any number of them."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _LONGEST_TAIL))
        tail = stream.read(_LONGEST_TAIL)
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
