"""Files that appear complete or not at all: the one writer of all that is written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ddmseg.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file is larger than this disk allows; choose another folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of this path is a file, not a folder; choose another folder",
    errno.EISDIR: "a folder of that name is there already; remove it or choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
PARTIAL = ".partial-"
"""What the name of a file begins with until it is complete; a kill may leave one."""
_KEPT_CHARACTERS = 30
"""Of a name, in the temporary one: with it, the name is never longer than short disks allow."""


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], *, private: bool = False, durable: bool = True
) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix; on success it becomes ``path``.

    Missing folders are made. On any exception the temporary file is removed and an older
    ``path`` stays as it was. Do nothing but write in the body: every OSError in it is reported
    as a failure to write.

    Args:
        private: make it readable for its owner only, from the first byte on.
        durable: have it survive a power cut; False for what may be lost, such as a cache.

    Raises:
        OutputError: when the file cannot be written; one line with the reason.
    """
    target = Path(path)
    tail = target.name[-_KEPT_CHARACTERS:]
    partial = target.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{tail}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.lstat()  # a name that is too long is told before the work
        if private:
            partial.touch(mode=0o600, exist_ok=False)
        yield partial
        if durable:
            _sync(partial)
        partial.replace(target)
        if durable:
            sync_folder(target.parent)
    except OSError as error:
        known = _ADVICE.get(_number(error) or 0)
        reason = known or f"{system_reason(error)}; choose another folder"
        raise OutputError(f"cannot write {target}: {reason}") from error
    finally:
        # gone already after success; another failure here would hide the first
        with contextlib.suppress(OSError):
            partial.unlink()


def write_bytes(
    path: str | os.PathLike[str], data: bytes, *, private: bool = False, durable: bool = True
) -> None:
    """Write a whole file by :func:`atomic_write`."""
    with atomic_write(path, private=private, durable=durable) as partial:
        partial.write_bytes(data)


def _sync(path: Path) -> None:
    """Have the bytes on the disk before the name: a crash must not leave an empty file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk too, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a disk that syncs no folders
            raise
    finally:
        os.close(descriptor)


def system_reason(error: OSError) -> str:
    """Return what the system said was wrong, and never a library's text.

    Libraries raise a new error from the system's own, pydicom with a traceback as its text
    and without the number, so the number is looked for in all that led to it.
    """
    number = _number(error)
    return "the system gave no reason" if number is None else os.strerror(number)


def _number(error: OSError) -> int | None:
    """The number of the error, or else of the latest that it was raised from or while handling."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, OSError) and one.errno is not None:
            return one.errno
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return None
