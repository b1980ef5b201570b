"""The queue of jobs on the disk: a folder for each, whose state is a small JSON file.

A job is one examination that arrived. Its state is replaced as a whole by renaming, so that a
program that is killed at any moment finds the old state or the new one. A folder without a state
is a job that has just been made. A damaged state is put aside and reported, and the job is done
again: results that are there already are neither computed nor named anew.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ddmseg.atomic import sync_folder, write_bytes
from ddmseg.errors import OutputError

State = Literal["waiting", "segmented", "done", "failed"]
STATES = ("waiting", "segmented", "done", "failed")
OPEN_STATES = ("waiting", "segmented")
STATE_FILE = "job.json"
DAMAGED_FILE = "job.json.damaged"
CLOCK_FILE = "clock"
IMAGES = "images"
MAX_STATE_BYTES = 1 << 20
MAX_CLOCK_CHARACTERS = 40

_NUMBER = re.compile(r"\d{6,}")


class RunningClock:
    """Seconds that the nodes of a spool have run, all runs together.

    What is kept for days is measured by it. A clock of the machine that is set forward, or is
    wrong at a start, then removes nothing, and one that is set back holds nothing up. The file
    at ``path`` outlives the program; absent or damaged, counting begins anew.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._now, self._before, self._start = path, now, 0.0, now()
        with contextlib.suppress(OSError, ValueError), path.open(encoding="ascii") as stream:
            seconds = float(stream.read(MAX_CLOCK_CHARACTERS))
            if math.isfinite(seconds) and seconds >= 0:
                self._before = seconds

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self._before + self._now() - self._start

    def save(self) -> None:
        """Have the next run go on from here; OutputError when the disk does not allow it."""
        write_bytes(self._path, f"{self():.3f}\n".encode("ascii"))


@dataclass(frozen=True)
class Record:
    """What is known of a job; all that its file holds. No patient and no UID.

    Attributes:
        state: ``waiting`` for the segmentation, ``segmented`` and to be sent, ``done``
            or ``failed``.
        starts: how often the segmentation was begun.
        series: number of the series that was taken, as the scanner counts.
        files: names of the results to send.
        delivered: names of the destinations that have them.
        failures: tries that failed in a row, in this state.
        ended: when it was done or failed, by the clock of the spool.
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
    ended: float = 0.0
    reason: str = ""
    missing: int = 0

    def __post_init__(self) -> None:
        counts = (self.instances, self.starts, self.failures, self.missing)
        texts = (self.stem, self.verdict, self.reason, *self.files, *self.delivered)
        sound = (
            self.state in STATES
            and all(_is_whole(count) and count >= 0 for count in counts)
            and (self.series is None or _is_whole(self.series))
            and all(isinstance(text, str) for text in texts)
            # they are sent, so they must lie in the folder of the job
            and all(re.fullmatch(r"[^/\\\0]+\.dcm", name) for name in self.files)
            and isinstance(self.ended, float | int)
            and math.isfinite(self.ended)
        )
        if not sound:
            raise ValueError("not the state of a job")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


@dataclass(frozen=True)
class Job:
    """One examination that arrived; its number counts from 1, never used twice in a spool."""

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

    What is asked at every image or ten times a second comes from memory, however many old jobs
    there are. Methods that change a job raise OutputError when its state cannot be written; the
    job stays as it was. ``now`` is a clock in seconds that only runs forward.

    Attributes:
        clock: how long the spool has been in use; jobs have ended by it.
        mended: numbers of the jobs whose state was damaged.
        trouble: a line for each of them.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._lock = folder, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = RunningClock(folder / CLOCK_FILE, now)
        self.mended: set[int] = set()
        self.trouble: list[str] = []
        self._jobs: dict[int, Job] = {}
        self._open: set[int] = set()
        self._holding: defaultdict[str, set[int]] = defaultdict(set)
        self._last = 0
        for place in sorted(folder.iterdir()):
            if not _NUMBER.fullmatch(place.name):
                continue
            if place.is_dir() and (job := self._read(place)):
                self._know(job)
            if place.exists():  # and was no job that had only been begun
                self._last = max(self._last, int(place.name))

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        with self._lock:
            return [self._jobs[number] for number in sorted(self._jobs)]

    def due(self, state: State) -> list[Job]:
        """Return the jobs that wait for the segmentation, or to be sent, the oldest first."""
        with self._lock:
            jobs = [self._jobs[number] for number in sorted(self._open)]
        return [job for job in jobs if job.record.state == state]

    def holding(self, study_uid: str) -> list[Job]:
        """Return the jobs that hold images of a study, the oldest first."""
        with self._lock:
            jobs = [self._jobs[number] for number in sorted(self._holding.get(study_uid, ()))]
        return [job for job in jobs if (job.images / study_uid).is_dir()]

    def kept(self) -> list[Job]:
        """Return the jobs that still have images, the oldest first."""
        with self._lock:
            numbers = set().union(*self._holding.values())
            return [self._jobs[number] for number in sorted(numbers)]

    def studies(self) -> set[str]:
        """Return the studies that any job holds images of."""
        with self._lock:
            return set(self._holding)

    def add(self, study: Path, instances: int, **fields: Any) -> Job:
        """Make a job of a folder of so many images, which moves into it.

        ``fields`` are those of the record of a job that is not to wait for the segmentation. On
        an OutputError the images stay where they are.
        """
        with self._lock:
            number = self._last + 1
            folder = self._folder / f"{number:06d}"
            images, record = folder / IMAGES, Record(instances=instances, **fields)
            try:
                images.mkdir(parents=True, exist_ok=True)
                if fields:  # before the images: without a state they would be segmented
                    _write_record(folder, record)
                for parent in (folder, self._folder):  # a power cut must not lose the new place
                    sync_folder(parent)
                # from here on it is a job, even if its first state is never written
                study.replace(images / study.name)
            except OSError as error:
                raise OutputError(
                    f"cannot make a job: {error.strerror or error}; it is tried again"
                ) from error
            with contextlib.suppress(OSError):  # until it is there the images are in the old one
                for parent in (images, study.parent):
                    sync_folder(parent)
            self._last, job = number, Job(number, folder, record)
            self._know(job, study.name)
            return job

    def update(self, job: Job, **changes: Any) -> Job:
        """Change fields of a job's record, on the disk first; return the job as it is now."""
        with self._lock:
            record = replace(self._jobs[job.number].record, **changes)
            _write_record(job.folder, record)
            changed = replace(job, record=record)
            self._know(changed)
            return changed

    def end(self, job: Job, state: Literal["done", "failed"], **changes: Any) -> Job:
        """End a job now; return it as it is then."""
        return self.update(job, state=state, ended=self.clock(), **changes)

    def revive(self, job: Job) -> Job:
        """Have a failed job wait as if it had never been begun; return it as it is now."""
        return self.update(job, state="waiting", starts=0, failures=0, ended=0.0, reason="")

    def drop_images(self, job: Job) -> None:
        """Remove the images of a job; its state stays, so that its number is not used again."""
        studies = job.studies()
        shutil.rmtree(job.images, ignore_errors=True)
        with self._lock:
            for study in studies:
                self._holding[study].discard(job.number)
                if not self._holding[study]:
                    del self._holding[study]

    def _know(self, job: Job, *studies: str) -> None:
        """Keep in memory where a job stands."""
        self._jobs[job.number] = job
        (self._open.add if job.record.state in OPEN_STATES else self._open.discard)(job.number)
        for study in studies:
            self._holding[study].add(job.number)

    def _read(self, folder: Path) -> Job | None:
        """A job as its folder shows it; None where the program ended before it had images."""
        state, number = folder / STATE_FILE, int(folder.name)
        record, studies = None, Job(number, folder, Record()).studies()
        if state.is_file():
            record = _read_record(state) or self._mend(folder, studies)
        if record is None and not studies:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        if record is None:
            record = Record(instances=_count(folder / IMAGES))
        elif studies and record.ended > self.clock():  # by another clock, so it counts from now
            record = replace(record, ended=self.clock())
            with contextlib.suppress(OutputError):
                _write_record(folder, record)
        job = Job(number, folder, record)
        for study in studies:
            self._holding[study].add(number)
        return job

    def _mend(self, folder: Path, studies: list[str]) -> Record:
        """Put a damaged state aside; return the one that takes its place."""
        with contextlib.suppress(OSError):
            (folder / STATE_FILE).replace(folder / DAMAGED_FILE)
        if studies:
            record, then = Record(instances=_count(folder / IMAGES)), "the job is done again"
        else:
            reason = "its state was damaged and its images are gone; send the study again"
            record = Record("failed", reason=reason, ended=self.clock())
            then = "its images are gone: it counts as failed"
        with contextlib.suppress(OutputError):
            _write_record(folder, record)
        self.mended.add(int(folder.name))
        self.trouble.append(
            f"job-{folder.name}: its state was damaged and is now {DAMAGED_FILE}; {then}"
        )
        return record


def _count(images: Path) -> int:
    return sum(1 for path in images.rglob("*.dcm") if path.is_file())


def _write_record(folder: Path, record: Record) -> None:
    write_bytes(folder / STATE_FILE, f"{json.dumps(asdict(record), indent=1)}\n".encode())


def _read_record(path: Path) -> Record | None:
    """The record in a file, None where it is damaged."""
    try:
        with path.open("rb") as stream:
            values = json.loads(stream.read(MAX_STATE_BYTES))
        known = {field.name for field in fields(Record)}
        values = {name: value for name, value in values.items() if name in known}
        for name in ("files", "delivered"):
            values[name] = tuple(values.get(name, ()))
        return Record(**values)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
