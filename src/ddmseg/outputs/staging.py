"""From a hidden folder to the place of a result: whole, or finished after a kill, or not at all.

Every file is first written to a hidden folder beside its place, the receipt last. Only
then are they moved in: the old receipt goes first, the new one comes last. Whoever finds
a receipt finds the whole set; whoever finds a hidden folder with a receipt can finish it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddmseg.atomic import sync_folder, system_reason
from ddmseg.errors import OutputError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.outputs.names import RECEIPT, existing_outputs


@contextmanager
def errors_named(folder: Path) -> Iterator[None]:
    """Turn what the file system says into one line for the user."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {system_reason(error)}; mend that or choose another folder"
        ) from error


@contextmanager
def staging(folder: Path, stem: str) -> Iterator[Path]:
    """A hidden folder inside the output folder, so that moving in is a mere renaming."""
    # Named before it is made: Ctrl-C between the two leaves nothing behind.
    place = staging_place(folder, stem)
    try:
        place.mkdir(mode=0o700)
        yield place
    except OutputError as error:
        # the user knows the file by the place where it was to be
        raise OutputError(str(error).replace(str(place), str(folder))) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def move_in(staged: Sequence[Path], folder: Path, existing: Sequence[Path]) -> None:
    """Move the old set out and the new one in; on any failure put the old one back."""
    aside = staged[0].parent / "replaced"
    aside.mkdir(exist_ok=True)
    moved: list[tuple[Path, Path]] = []
    # the old receipt goes first: from here on nothing claims that the set is complete
    pairs = [(path, aside / path.name) for path in reversed(existing)]
    pairs += [(path, folder / path.name) for path in staged]
    try:
        for source, target in pairs:
            if source == staged[-1]:
                sync_folder(folder)  # no receipt on the disk before what it stands for
            source.replace(target)
            moved.append((source, target))
        sync_folder(folder)
    except BaseException:
        for source, target in reversed(moved):
            target.replace(source)
        raise


def staging_place(folder: Path, stem: str) -> Path:
    """Return the hidden folder of a result; where it stands, a process is at work or was killed."""
    return folder / f".{stem}.writing"


def settle(folder: Path, stem: str) -> None:
    """Finish what a killed process had whole, and sweep what it had not; under a claim.

    An OSError says that files cannot be moved.
    """
    left = staging_place(folder, stem)
    if not left.is_dir():
        return
    names = _whole(left, folder, stem)
    if names:
        staged = [left / name for name in names if (left / name).exists()]
        came = {folder / name for name in names if not (left / name).exists()}
        move_in(staged, folder, [p for p in existing_outputs(folder, stem) if p not in came])
    shutil.rmtree(left, ignore_errors=True)


def _whole(left: Path, folder: Path, stem: str) -> list[str]:
    """Return the names of a set whose moving in was cut short, the receipt last; else none."""
    hashes = receipt_hashes(left / f"{stem}{RECEIPT}")
    for name, expected in hashes.items():
        path = next((place / name for place in (left, folder) if (place / name).is_file()), None)
        if path is None or file_sha256(path) != expected:
            return []
    return [*hashes, f"{stem}{RECEIPT}"] if hashes else []


def receipt_hashes(receipt: Path) -> dict[str, str]:
    """Return the hash of each file that a receipt stands for; none where it is unreadable."""
    try:
        hashes = json.loads(receipt.read_text(encoding="utf-8"))["outputs"]
        return {Path(str(name)).name: str(expected) for name, expected in hashes.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]


@dataclass
class Claim:
    """What was claimed; :meth:`release` gives it back."""

    folder: Path
    _lock_path: Path
    _made: list[Path]
    _descriptor: int | None

    def release(self) -> None:
        """Let others write there; folders that were made for nothing are taken back."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            self._lock_path.unlink()  # while it is ours
        os.close(descriptor)
        with contextlib.suppress(OSError):  # something is in it
            for folder in self._made:
                folder.rmdir()


def try_claim(folder: Path, stem: str) -> Claim | None:
    """Claim the place of a result; None when another process, or thread, holds it.

    A folder that is missing is made. An OSError says that nothing can be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / f".{stem}.claim"
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
            return Claim(folder, path, made, descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def claimed(folder: Path, stem: str) -> Iterator[Claim]:
    """Claim the place of a result for the time of the body; else raise an OutputError."""
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


def _lock(descriptor: int) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a disk without locks
            pass
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether a file is still at its path: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
