"""The log of decisions: lines that are only ever added, each with the hash of the one before.

A line is one JSON object in one form, sealed with the key of the account that decided
(:mod:`ddmseg.review.seal`). Beside the log lies its head: how many lines there are, the hash of
the last, and, while a decision is written, the line to come. So a program that is killed in
between leaves nothing undecided: who holds the log next finishes what reached the log and takes
back what did not. The first line also states what the results may be used for; logs that were
begun without it, or without seals, are as good.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddmseg.atomic import write_bytes
from ddmseg.errors import MissingExtraError, OutputError, Reason, ScanError, about_file, optional
from ddmseg.messages import NOTICE
from ddmseg.models.json_reader import parse_json
from ddmseg.review.files import STAGED, inside, linked, plain_file, staging_place, sweep, unreadable
from ddmseg.review.seal import (
    FIRST,
    Account,
    Head,
    entry_of,
    head_of,
    line_of,
    line_sha256,
    wrong_place,
)

LOG = "review_log.jsonl"
HEAD = "review_log_head.json"
LOCK_SECONDS = 30.0
"""How long one writer waits for another."""
_LOCK = ".review_log.lock"


@dataclass(frozen=True)
class Verification:
    """What was found out about a log."""

    entries: int  # lines that are as they were written, from the first on
    last_sha256: str  # of the last of them
    problem: str = ""  # what is wrong first, with its line
    doubt: str = ""  # what cannot be known without the key


class ReviewLog:
    """The log of one output folder, with the time of a ``clock``: that of the machine if None."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] | None = None) -> None:
        self.folder = folder
        self.path = folder / LOG
        self.account = Account(folder)
        self._clock = clock or (lambda: datetime.now(UTC))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the log against every other writer, of this process or of another.

        A decision that was interrupted is finished or taken back first. OutputError when another
        one does not let go, or the folder is not writable.
        """
        filelock = optional("filelock", "review")
        place = self.path.with_name(_LOCK)
        if place.is_symlink():
            raise OutputError(linked(place))
        lock = filelock.FileLock(place, timeout=LOCK_SECONDS, is_singleton=False)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            why = "another program holds the log; end it and try again"
            raise OutputError(about_file(self.path, why, "log_held")) from error
        except OSError as error:
            raise self._failed(error) from error
        try:
            sweep(self.folder, HEAD)
            self._settle()
            yield
        finally:
            lock.release()

    def settle(self) -> None:
        """Finish or take back a decision that was interrupted, where the folder is writable."""
        if self._head()[1] is not None:
            with contextlib.suppress(OutputError, ScanError, MissingExtraError), self.locked():
                pass

    def append(
        self, entry: dict[str, Any], *, staged: tuple[Path, Path] | None = None
    ) -> dict[str, Any]:
        """Add one line, on the disk when this returns; hold :meth:`locked` around it.

        Number, time, seal and the hash of the line before are added to what was decided, to the
        first line the notice too; the whole entry is returned. ``staged`` is a file that is
        written already (:func:`staging_place`) and the name that it gets with the line.
        OutputError when the line cannot be written, or the log is not as it was left; all is then
        as before.
        """
        lines = self._lines()
        before = Head(len(lines), line_sha256(lines[-1]) if lines else FIRST)
        whole = self._whole(entry, before)
        line = line_of(whole)
        after = Head(before.entries + 1, line_sha256(line))
        try:
            self._write_head(before, line)
            self._write(line + b"\n", staged)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._write_head(before)
            raise self._failed(error) from error
        # the line is there; where its head cannot follow, who holds the log next sees to it
        with contextlib.suppress(OSError):
            self._write_head(after)
        self.account.keep(after)
        return whole

    def entries(self) -> list[dict[str, Any]]:
        """Return every entry that can be read, in their order; whether it holds is not asked."""
        found = []
        for line in self._raw().split(b"\n"):
            with contextlib.suppress(ValueError):
                found.append(entry_of(line))
        return found

    def verify(self) -> Verification:
        """Check form, number, hash and seal of every line, then the heads.

        ScanError when the log cannot be read.
        """
        *lines, torn = self._raw().split(b"\n")
        previous, found = FIRST, []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(entry_of(line))
                wrong = wrong_place(found[-1], number, previous)
            except ValueError as error:
                wrong = str(error)
            if wrong:
                return Verification(number - 1, previous, f"line {number}: {wrong}")
            previous = line_sha256(line)
        if torn:
            wrong = "cut off; the program or the machine stopped while it was written"
            return Verification(len(lines), previous, f"line {len(lines) + 1}: {wrong}")
        wrong = self._wrong_head(lines, found)
        problem, doubt = (wrong, "") if wrong else self.account.check(found)
        return Verification(len(lines), previous, problem, doubt)

    def _wrong_head(self, lines: list[bytes], entries: list[dict[str, Any]]) -> str:
        head, pending = self._head()
        for one in (self.account.head(), head):
            if one is not None and (wrong := one.missing_from(lines)):
                return wrong
        if head is None:
            sealed = any("seal" in entry for entry in entries)
            return f"{HEAD} is missing or damaged; put it back from a copy" if sealed else ""
        coming = [] if pending is None else [pending]
        if lines[head.entries :] not in ([], coming):
            return f"line {head.entries + 1}: added by another program; {HEAD} does not know it"
        return ""

    def _whole(self, entry: dict[str, Any], before: Head) -> dict[str, Any]:
        first: dict[str, Any] = {}
        if not before.entries:
            first = {"notice": NOTICE}
            # a log that was here and is gone: the new one says so
            heads = (self.account.head(), self._head()[0])
            lost = [asdict(head) for head in heads if head is not None and head.entries]
            first |= {"earlier_log": lost[0]} if lost else {}
        whole = {
            "entry": before.entries + 1,
            "time": self._clock().astimezone(UTC).isoformat(timespec="seconds"),
            **first,
            **entry,
            "previous_sha256": before.last_sha256,
        }
        return self.account.sealed(whole)

    def _raw(self) -> bytes:
        try:
            with open(plain_file(self.path, os.O_RDONLY), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ScanError(unreadable(self.path, error)) from error

    def _lines(self) -> list[bytes]:
        """The lines to which one may be added: those of a log that is as it was left."""
        *lines, torn = self._raw().split(b"\n")
        if torn:
            why = (
                "the last line is cut off, so nothing is added; rename the file to "
                "begin a new log, and keep the old one"
            )
            raise OutputError(about_file(self.path, why, "log_cut"))
        if lines and (wrong := self.verify().problem):
            raise OutputError(self.changed(wrong))
        return lines

    def changed(self, why: str) -> Reason:
        """Return the problem of a log that is not as it was written."""
        whole = (
            f"{why}; nothing is added to such a log: put it back from a copy, "
            "or rename it to begin a new one, and keep the old one"
        )
        return about_file(self.path, whole, "log_changed", why=why)

    def _head(self) -> tuple[Head | None, bytes | None]:
        """The head beside the log, and the line that was to come; None where there is none."""
        try:
            with open(plain_file(self.folder / HEAD, os.O_RDONLY), "rb") as file:
                found = parse_json(file.read())
            head = head_of(found)
        except (OSError, ScanError, ValueError):
            return None, None
        pending = found.get("pending")
        return head, pending.encode("utf-8", "replace") if isinstance(pending, str) else None

    def _write_head(self, head: Head, pending: bytes | None = None) -> None:
        values = {**asdict(head), "pending": None if pending is None else pending.decode()}
        try:
            write_bytes(self.folder / HEAD, f"{json.dumps(values)}\n".encode("ascii"))
        except OutputError as error:
            # the system's own reason goes into the line about the log
            raise error.__cause__ or OSError(str(error)) from error

    def _write(self, data: bytes, staged: tuple[Path, Path] | None) -> None:
        """Add a line and give the staged file its name; take the line back when either fails."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with open(plain_file(self.path, flags), "ab", buffering=0) as file:
            before = file.tell()
            try:
                written = file.write(data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
                if staged is not None:
                    staged[0].replace(staged[1])
            except OSError:
                # half a line would end the log for good
                with contextlib.suppress(OSError):
                    file.truncate(before)
                if not before:
                    with contextlib.suppress(OSError):
                        self.path.unlink()
                raise

    def _settle(self) -> None:
        head, pending = self._head()
        if head is None or pending is None:
            return
        raw, places = self._raw(), _places(pending, self.folder)
        *lines, torn = raw.split(b"\n")
        if head.missing_from(lines) or (torn and not pending.startswith(torn)):
            return  # not what an interruption leaves; checking the log names it
        try:
            if lines[head.entries :] == [pending]:
                if places is not None and places[0].is_file():
                    places[0].replace(places[1])
                head = Head(head.entries + 1, line_sha256(pending))
            elif lines[head.entries :]:
                return
            if torn:
                os.truncate(self.path, len(raw) - len(torn))
            self._write_head(head)
        except OSError as error:
            raise self._failed(error) from error
        if places is not None:
            sweep(places[0].parent, STAGED)
            with contextlib.suppress(OSError):
                places[0].unlink()

    def _failed(self, error: OSError) -> OutputError:
        why = error.strerror or str(error)
        sentence = (
            f"cannot write {self.path}: {why}; nothing was decided; "
            "free some space or mend the permissions, and decide again"
        )
        return OutputError(Reason(sentence, "not_decided", {"file": str(self.path), "why": why}))


def _places(line: bytes, folder: Path) -> tuple[Path, Path] | None:
    """The staged file and the target of a correction's line."""
    try:
        entry = entry_of(line)
    except ValueError:
        return None
    target = inside(folder, entry.get("file", "")) if entry.get("action") == "correct" else None
    return (staging_place(target), target) if target is not None and target.name else None
