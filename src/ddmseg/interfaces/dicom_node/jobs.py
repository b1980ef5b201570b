"""The queue of jobs on the disk: a folder for each, whose state is a small JSON file.

A job is one examination that arrived. Its state is replaced as a whole by renaming,
so that a program that is killed at any moment finds either the old state or the new
one. A folder without a state is a job that has just been made.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.atomic import atomic_write

State = Literal["waiting", "segmented", "done", "failed"]
STATES = ("waiting", "segmented", "done", "failed")
STATE_FILE = "job.json"
IMAGES = "images"

_NUMBER = re.compile(r"\d{6,}")


@dataclass(frozen=True)
class Record:
    """What is known of a job; all that its file holds. No patient and no UID.

    Attributes:
        state: ``waiting`` for the segmentation, ``segmented`` and to be sent, ``done``
            or ``failed``.
        instances: images that arrived.
        starts: how often the segmentation was begun.
        series: number of the series that was taken, as the scanner counts.
        stem: of the names of its results.
        verdict: of the quality check.
        files: names of the results to send.
        delivered: names of the destinations that have them.
        failures: tries that failed in a row, in this state.
        next_try: not before this, in seconds since 1970.
        ended: when it was done or failed, in seconds since 1970.
        reason: why it failed.
        missing: images that were refused for lack of room and never came.
    """

    state: State = "waiting"
    instances: int = 0
    starts: int = 0
    series: int | None = None
    stem: str = ""
    verdict: str = ""
    files: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    failures: int = 0
    next_try: float = 0.0
    ended: float = 0.0
    reason: str = ""
    missing: int = 0


@dataclass(frozen=True)
class Job:
    """One examination that arrived.

    Attributes:
        number: counted from 1; never used twice in a spool.
        folder: of its state and images.
        record: what is known of it.
    """

    number: int
    folder: Path
    record: Record

    @property
    def name(self) -> str:
        """Such as ``job-000007``; its results lie in a folder of that name."""
        return f"job-{self.number:06d}"

    @property
    def images(self) -> Path:
        """The images that arrived, in folders by study and series; may be gone by now."""
        return self.folder / IMAGES

    def studies(self) -> list[str]:
        """Return the studies that its images belong to: one, or none when they are gone."""
        return [path.name for path in self.images.iterdir()] if self.images.is_dir() else []


class JobQueue:
    """Every job of a spool; safe to use from several threads.

    Args:
        folder: of the jobs; made when it is missing.

    Raises:
        ScanError: when the state of a job is damaged.
        OutputError: when the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._jobs = {job.number: job for job in self._read_all()}

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        with self._lock:
            return [self._jobs[number] for number in sorted(self._jobs)]

    def due(self, state: State, now: float) -> list[Job]:
        """Return the jobs in a state whose time to be tried has come, the oldest first."""
        return [
            job for job in self.all() if job.record.state == state and job.record.next_try <= now
        ]

    def holding(self, study_uid: str) -> list[Job]:
        """Return the jobs that hold images of a study, the oldest first."""
        return [job for job in self.all() if (job.images / study_uid).is_dir()]

    def add(self, study: Path, instances: int, **fields: Any) -> Job:
        """Make a job of a folder of images, which moves into it.

        Args:
            study: the folder.
            instances: how many images it holds.
            fields: of the record of a job that is not to wait for the segmentation.

        Raises:
            OutputError: when the disk does not allow it; the images then stay where they are.
        """
        with self._lock:
            number = max(self._jobs, default=0) + 1
            folder = self._folder / f"{number:06d}"
            images, record = folder / IMAGES, Record(instances=instances, **fields)
            try:
                images.mkdir(parents=True, exist_ok=True)
                if fields:  # before the images: without a state they would be segmented
                    _write_record(folder, record)
                # from here on it is a job, even if its first state is never written
                study.replace(images / study.name)
            except OSError as error:
                raise OutputError(
                    f"cannot make a job: {error.strerror or error}; it is tried again"
                ) from error
            job = self._jobs[number] = Job(number, folder, record)
            return job

    def update(self, job: Job, **changes: Any) -> Job:
        """Change fields of a job's record, on the disk first; return the job as it is now.

        Raises:
            OutputError: when the state cannot be written; the job stays as it was.
        """
        with self._lock:
            record = replace(self._jobs[job.number].record, **changes)
            _write_record(job.folder, record)
            changed = self._jobs[job.number] = replace(job, record=record)
            return changed

    def revive(self, job: Job) -> Job:
        """Have a failed job wait as if it had never been begun; return it as it is now.

        Raises:
            OutputError: when the state cannot be written.
        """
        fresh = {"starts": 0, "failures": 0, "next_try": 0.0, "ended": 0.0, "reason": ""}
        return self.update(job, state="waiting", **fresh)

    def drop_images(self, job: Job) -> None:
        """Remove the images of a job; its state stays, so that its number is not used again."""
        shutil.rmtree(job.images, ignore_errors=True)

    def _read_all(self) -> Iterator[Job]:
        for folder in sorted(self._folder.iterdir()):
            if not _NUMBER.fullmatch(folder.name):
                continue
            images, state = folder / IMAGES, folder / STATE_FILE
            if state.is_file():
                yield Job(int(folder.name), folder, _read_record(state))
            elif images.is_dir() and any(images.iterdir()):
                count = sum(1 for path in images.rglob("*.dcm") if path.is_file())
                yield Job(int(folder.name), folder, Record(instances=count))
            else:
                # the program ended before the images had been moved in
                shutil.rmtree(folder, ignore_errors=True)


def _write_record(folder: Path, record: Record) -> None:
    with atomic_write(folder / STATE_FILE) as partial:
        partial.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def _read_record(path: Path) -> Record:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Record)}
        values = {name: value for name, value in values.items() if name in known}
        for name in ("files", "delivered"):
            values[name] = tuple(map(str, values.get(name, ())))
        record = Record(**values)
        if record.state not in STATES:
            raise ValueError
        return record
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ScanError(
            f"{path}: the state of this job is damaged; remove this file to have the job done again"
        ) from error
