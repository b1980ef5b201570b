"""The claim on the place of one result: who holds it is the only one to write there.

A claim is a lock of the operating system on a hidden file, so that a process that dies
loses it, however it dies. Where a disk knows no locks, there is none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ddmseg.errors import OutputError

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]


@dataclass
class Claim:
    """What was claimed; :meth:`release` gives it back.

    Attributes:
        folder: of the results.
        stem: what their names begin with.
    """

    folder: Path
    stem: str
    _made: list[Path] = field(default_factory=list, repr=False)
    _descriptor: int | None = None

    def release(self) -> None:
        """Let others write there; folders that were made for nothing are taken back."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            _lock_path(self.folder, self.stem).unlink()  # while it is ours
        os.close(descriptor)
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:  # something is in it
                return


def try_claim(folder: Path, stem: str) -> Claim | None:
    """Claim the place of a result; None when another process, or thread, holds it.

    Args:
        folder: made when it is missing.
        stem: what the names of the results begin with.

    Raises:
        OSError: when nothing can be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = _lock_path(folder, stem)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # another one took the folder back just now
            continue
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        if _is_still(descriptor, path):
            return Claim(folder, stem, made, descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def claimed(folder: Path, stem: str) -> Iterator[Claim]:
    """Claim the place of a result for the time of the body.

    Raises:
        OutputError: when another process is at work there.
    """
    claim = try_claim(folder, stem)
    if claim is None:
        raise OutputError(
            f"{folder}: another process is writing the results of {stem}; wait for it or choose "
            "another folder"
        )
    try:
        yield claim
    finally:
        claim.release()


def _lock_path(folder: Path, stem: str) -> Path:
    return folder / f".{stem}.claim"


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether a file is still at its path: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
