"""The log of decisions: lines that are only ever added, each with the hash of the one before.

A line is one JSON object. ``previous_sha256`` is the SHA-256 of the bytes of the line
before (without its line end), 64 zeros in the first line. Whoever changes, removes or
inserts a line breaks the chain behind it. Lines taken off the end leave no trace in the
file; keep the hash of the last line elsewhere where that matters. The first line also says what
the results may be used for; logs that were begun without it are as good.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddmseg.errors import MissingExtraError, OutputError, ScanError
from ddmseg.imaging.notice import NOTICE
from ddmseg.pipeline.quality.reasons import Reason

LOG = "review_log.jsonl"
FIRST = "0" * 64
"""What the first line gives as the hash of the line before."""
LOCK_SECONDS = 30.0
"""How long one writer waits for another."""
_LOCK = ".review_log.lock"


@dataclass(frozen=True)
class Verification:
    """What was found out about a log.

    Attributes:
        entries: lines that are as they were written, from the first on.
        last_sha256: hash of the last of them.
        problem: what is wrong first, with its line, or "" when nothing is.
    """

    entries: int
    last_sha256: str
    problem: str = ""


class ReviewLog:
    """The log of one output folder.

    Args:
        folder: that holds it.
        clock: tells the time; tests give their own.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] | None = None) -> None:
        self.path = folder / LOG
        self._clock = clock or (lambda: datetime.now(UTC))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the log against every other writer, of this process or of another.

        Raises:
            OutputError: when another one does not let go, or the folder is not writable.
            MissingExtraError: when filelock is not installed.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingExtraError("filelock", "review") from error
        lock = FileLock(self.path.with_name(_LOCK), timeout=LOCK_SECONDS, is_singleton=False)
        try:
            lock.acquire()
        except Timeout as error:
            said = f"{self.path}: another program holds the log; end it and try again"
            raise OutputError(Reason(said, "log_held", {"file": str(self.path)})) from error
        except OSError as error:
            raise self._failed(error) from error
        try:
            yield
        finally:
            lock.release()

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Add one line, on the disk when this returns; hold :meth:`locked` around it.

        Args:
            entry: what was decided; number, time and the hash of the line before are added, to the
                first line the notice too.

        Returns:
            The whole entry.

        Raises:
            OutputError: when the line cannot be written; the log is then as before.
        """
        lines = self._lines()
        last = lines[-1] if lines else None
        whole = {
            "entry": len(lines) + 1,
            "time": self._clock().astimezone(UTC).isoformat(timespec="seconds"),
            **({"notice": NOTICE} if last is None else {}),
            **entry,
            "previous_sha256": FIRST if last is None else hashlib.sha256(last).hexdigest(),
        }
        data = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self._write(data)
        except OSError as error:
            raise self._failed(error) from error
        return whole

    def entries(self) -> list[dict[str, Any]]:
        """Return every entry that can be read, in their order; whether it holds is not asked."""
        found = []
        for line in self._raw().split(b"\n"):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found

    def verify(self) -> Verification:
        """Check number and hash of every line up to the first that is wrong."""
        raw = self._raw()
        previous = FIRST
        *lines, torn = raw.split(b"\n")
        for number, line in enumerate(lines, start=1):
            wrong = _wrong_with(line, number, previous)
            if wrong:
                return Verification(number - 1, previous, f"line {number}: {wrong}")
            previous = hashlib.sha256(line).hexdigest()
        if torn:
            wrong = "cut off; the program or the machine stopped while it was written"
            return Verification(len(lines), previous, f"line {len(lines) + 1}: {wrong}")
        return Verification(len(lines), previous)

    def _raw(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            why = error.strerror or str(error)
            said = f"{self.path}: cannot be read ({why}); check its permissions"
            values = {"file": str(self.path), "why": why}
            raise ScanError(Reason(said, "file_locked", values)) from error

    def _lines(self) -> list[bytes]:
        raw = self._raw()
        if raw and not raw.endswith(b"\n"):
            said = (
                f"{self.path}: the last line is cut off, so nothing is added; rename the file to "
                "begin a new log, and keep the old one"
            )
            raise OutputError(Reason(said, "log_cut", {"file": str(self.path)}))
        return raw.split(b"\n")[:-1]

    def _write(self, data: bytes) -> None:
        before = self.path.stat().st_size if self.path.exists() else None
        with self.path.open("ab") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                # half a line would end the log for good
                with contextlib.suppress(OSError):
                    os.truncate(self.path, before or 0)
                raise

    def _failed(self, error: OSError) -> OutputError:
        why = error.strerror or str(error)
        said = (
            f"cannot write {self.path}: {why}; nothing was decided; "
            "free some space or mend the permissions, and decide again"
        )
        return OutputError(Reason(said, "not_decided", {"file": str(self.path), "why": why}))


def _wrong_with(line: bytes, number: int, previous: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return "no JSON; it was damaged or changed"
    if not isinstance(entry, dict):
        return "no JSON object; it was changed"
    if entry.get("previous_sha256") != previous:
        before = f"line {number - 1}" if number > 1 else "an empty log"
        return f"its previous_sha256 is not that of {before}; one of the two was changed"
    if entry.get("entry") != number:
        return f"its entry says {entry.get('entry')!r}; lines are missing or were moved"
    return ""
