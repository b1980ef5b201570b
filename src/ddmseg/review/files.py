"""Files of a reviewed folder that are written to: no links, and nothing outside of the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

from ddmseg.atomic import PARTIAL
from ddmseg.errors import Reason, ScanError, about_file
from ddmseg.imaging.source_file import file_sha256

STAGED = ".staged"
_PLAIN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed, and nothing that waits for another program, such as a pipe."""


def staging_place(target: Path) -> Path:
    """Return where a file waits until the line about it is in the log."""
    # short, for the name of a scan may be as long as the disk allows
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".{name}{STAGED}")


def sweep(folder: Path, ending: str) -> None:
    """Remove drafts of that ending that a writer who was killed left behind.

    Hold the lock of the log: only who holds it writes such files.
    """
    for path in folder.glob(f"{PARTIAL}*{ending}"):
        with contextlib.suppress(OSError):
            path.unlink()


def inside(folder: Path, name: str) -> Path | None:
    """Return the file of that name in the folder, None where the name leads out of it."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name:
        return None
    path = folder / place
    linked = any(parent.is_symlink() for parent in path.parents if parent != folder)
    return None if linked and not path.resolve().is_relative_to(folder.resolve()) else path


def plain_file(path: Path, flags: int) -> int:
    """Open a file that is no link of any kind, neither to a name nor to a file of two names;
    ScanError when it is one, or no file at all.
    """
    if path.is_symlink():
        raise ScanError(linked(path))
    descriptor = os.open(path, flags | _PLAIN, 0o666)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, os.strerror(21))
    raise ScanError(linked(path))


def linked(path: Path) -> Reason:
    """Return why a file is not taken."""
    why = (
        "a link or no plain file; decisions are kept in the folder itself: put the file "
        "in its place, or remove it to begin a new log"
    )
    return about_file(path, why, "log_link")


def found_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, "" where there is none; ScanError when it cannot be read."""
    try:
        return file_sha256(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ScanError(unreadable(path, error)) from error


def unreadable(path: Path, error: OSError) -> Reason:
    """Return why a file cannot be read."""
    why = error.strerror or str(error)
    return about_file(
        path, f"cannot be read ({why}); check its permissions", "file_locked", why=why
    )
