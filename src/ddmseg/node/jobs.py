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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ddmseg.atomic import sync_folder, write_bytes
from ddmseg.errors import OutputError

State = Literal["waiting", "segmented", "done", "failed"]
STATES = get_args(State)
OPEN_STATES: tuple[State, ...] = ("waiting", "segmented")
STATE_FILE = "job.json"
DAMAGED_FILE = "job.json.damaged"
CLOCK_FILE = "clock"
IMAGES = "images"
MAX_STATE_BYTES = 1 << 20
MAX_CLOCK_CHARACTERS = 40

_NUMBER = re.compile(r"\d{6,}")


class RunningClock:
    """Seconds that the nodes of a spool have run, all runs together; ``path`` keeps them.

    What is kept for days is measured by it. A clock of the machine that is set forward, or is
    wrong at a start, then removes nothing, and one that is set back holds nothing up.
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
    """What is known of a job; all that its file holds. No patient and no UID."""

    state: State = "waiting"  # for the segmentation; "segmented" waits to be sent
    instances: int = 0
    starts: int = 0  # how often the segmentation was begun
    series: int | None = None  # number of the one that was taken, as the scanner counts
    stem: str = ""
    verdict: str = ""
    files: tuple[str, ...] = ()  # names of the results to send
    delivered: tuple[str, ...] = ()  # names of the destinations that have them
    failures: int = 0  # tries that failed in a row, in this state
    ended: float = 0.0  # when it was done or failed, by the clock of the spool
    reason: str = ""
    missing: int = 0  # images that were refused for lack of room and never came

    def __post_init__(self) -> None:
        counts = (self.instances, self.starts, self.failures, self.missing)
        texts = (self.stem, self.verdict, self.reason, *self.files, *self.delivered)
        sound = (
            self.state in STATES
            and all(type(count) is int and count >= 0 for count in counts)
            and type(self.series) in (int, type(None))
            and all(isinstance(text, str) for text in texts)
            # they are sent, so they must lie in the folder of the job
            and all(re.fullmatch(r"[^/\\\0]+\.dcm", name) for name in self.files)
            and type(self.ended) in (int, float)
            and math.isfinite(self.ended)
        )
        if not sound:
            raise ValueError("not the state of a job")


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
    job stays as it was. ``now`` is a clock in seconds that only runs forward; ``mended`` holds
    the numbers of the jobs whose state was damaged, ``trouble`` a line for each.
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
            if _NUMBER.fullmatch(place.name):
                if place.is_dir():
                    self._read(place)
                if place.exists():  # and was no job that had only been begun
                    self._last = max(self._last, int(place.name))

    def all(self) -> list[Job]:
        """Return every job, the oldest first."""
        return self._of(self._jobs)

    def _of(self, numbers: Iterable[int]) -> list[Job]:
        with self._lock:
            return [self._jobs[number] for number in sorted(numbers)]

    def due(self, state: State) -> list[Job]:
        """Return the jobs that wait for the segmentation, or to be sent, the oldest first."""
        return [job for job in self._of(self._open) if job.record.state == state]

    def holding(self, study_uid: str) -> list[Job]:
        """Return the jobs that hold images of a study, the oldest first."""
        jobs = self._of(self._holding.get(study_uid, ()))
        return [job for job in jobs if (job.images / study_uid).is_dir()]

    def kept(self) -> list[Job]:
        """Return the jobs that still have images, the oldest first."""
        with self._lock:
            numbers = set().union(*self._holding.values())
        return self._of(numbers)

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
                why = error.strerror or error
                raise OutputError(f"cannot make a job: {why}; it is tried again") from error
            with contextlib.suppress(OSError):  # until it is there the images are in the old one
                for parent in (images, study.parent):
                    sync_folder(parent)
            self._last, job = number, Job(number, folder, record)
            self._know(job, study.name)
            return job

    def update(self, job: Job, **changes: Any) -> Job:
        """Change fields of a job's record, on the disk first; return the job as it is now."""
        with self._lock:
            changed = replace(job, record=replace(self._jobs[job.number].record, **changes))
            _write_record(job.folder, changed.record)
            self._know(changed)
            return changed

    def end(self, job: Job, state: Literal["done", "failed"], **changes: Any) -> Job:
        """End a job now; return it as it is then."""
        return self.update(job, state=state, ended=self.clock(), **changes)

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
        self._jobs[job.number] = job
        (self._open.add if job.record.state in OPEN_STATES else self._open.discard)(job.number)
        for study in studies:
            self._holding[study].add(job.number)

    def _read(self, folder: Path) -> None:
        """Know a job as its folder shows it; remove it where it never came to have images."""
        state, number = folder / STATE_FILE, int(folder.name)
        record, studies = None, Job(number, folder, Record()).studies()
        if state.is_file():
            record = _read_record(state) or self._mend(folder, studies)
        if record is None and not studies:
            shutil.rmtree(folder, ignore_errors=True)
            return
        if record is None:
            record = Record(instances=_count(folder / IMAGES))
        elif studies and record.ended > self.clock():  # by another clock, so it counts from now
            record = replace(record, ended=self.clock())
            with contextlib.suppress(OutputError):
                _write_record(folder, record)
        self._know(Job(number, folder, record), *studies)

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
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
