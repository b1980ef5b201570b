"""What has arrived, on the disk: complete files by UID, within a quota.

    SPOOL/incoming/STUDY/SERIES/IMAGE.dcm      until the examination is complete
    SPOOL/jobs/000007/images/STUDY/...         then
    SPOOL/refused/STUDY                        images that there was no room for

A file is first written under a name of ours, read back for its UIDs, and only then
moved to where they say; so nothing from outside is ever part of a path unchecked. It is
taken only once the file and the names that lead to it are on the disk, and what a power cut
leaves under our name is moved at the next start.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.atomic import PARTIAL, atomic_write, sync_folder
from ddmseg.errors import OutputError, ScanError, SettingsError, UsageError, optional
from ddmseg.imaging.dicom.elements import value
from ddmseg.imaging.dicom.file import quiet, read_dataset, read_header_elements, read_start
from ddmseg.node.jobs import Job, JobQueue
from ddmseg.node.missing_images import MissingImages

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from pydicom import Dataset

UID_LENGTH = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
START_BYTES = 1 << 20
"""Of an image that is not kept, in which its UIDs are looked for; they stand at the beginning."""
UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Quota:
    """How much a spool may hold, and for how long; gigabytes and objects are above 0."""

    gigabytes: float = 50.0  # of all images together
    objects: int = 200_000  # files
    keep_days: float = 7.0  # for the images of a job that has ended
    wait_hours: float = 24.0  # for images that there was no room for

    def __post_init__(self) -> None:
        if not (self.gigabytes > 0 and self.objects >= 1 and self.keep_days >= 0):
            raise SettingsError(
                f"spool: got {self.gigabytes:g} GB, {self.objects} objects, {self.keep_days:g} "
                "days; GB and objects must be above 0 and days not below"
            )
        if not self.wait_hours >= 0:
            raise SettingsError(f"wait_hours: got {self.wait_hours:g}; it must be at least 0")


@dataclass(frozen=True)
class Arrival:
    """An image that was taken: the study it belongs to, and whether it was new."""

    study_uid: str
    new: bool


@dataclass(frozen=True)
class Held:
    """An examination that nobody sends any more: images here, and refused for lack of room."""

    images: int
    missing: int


def check_uid(uid: str) -> str:
    """Return a UID that is safe as the name of a file; ScanError when it is none.

    Source: DICOM PS3.5, 9.1 (digits and points, 64 at most).
    """
    if not _UID.fullmatch(uid) or len(uid) > UID_LENGTH:
        raise ScanError("a UID is absent or not made of digits and points; the image is refused")
    return uid


class Spool:
    """The folder that holds all that arrives, and its jobs; one program per folder.

    Methods that write raise OutputError when the disk does not allow it. ``now`` is a clock in
    seconds that only runs forward; ``trouble`` has a line for each thing that was found damaged.
    UsageError when another node uses the folder.
    """

    def __init__(
        self, folder: Path, quota: Quota | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.quota, self._now = quota or Quota(), now
        self._incoming, self._lock = folder / "incoming", threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold patients' scans
            self._owner = _own(folder)
            self._incoming.mkdir(exist_ok=True)
            for partial in self._incoming.rglob(f"{PARTIAL}*"):  # cut off while it was written
                partial.unlink()
            self.queue = JobQueue(folder / "jobs", now)
            self._missing = MissingImages(folder / "refused", self.queue.clock)
            sync_folder(folder)
            self._reported: dict[str, int] = {}
            self._last: dict[str, float] = {}
            self._bytes, self._objects = _measure(folder)
            self.trouble = [*self.queue.trouble, *self._take_up()]
        except OSError as error:
            raise OutputError(
                f"cannot use {folder} as spool: {error.strerror or error}; name another folder"
            ) from error
        self._missing.drop(self._is_here)
        self._hold_mended()

    def _take_up(self) -> list[str]:
        """Go on with what the last run left; return a line for each thing that is odd."""
        unnamed = [path for path in self._incoming.glob("*.dcm") if path.is_file()]
        odd = [line for path in unnamed if (line := self._name_again(path))]
        for study in self._incoming.iterdir():
            if study.is_dir():
                self._last[study.name] = self._now()
                for folder in (*(path for path in study.iterdir() if path.is_dir()), study):
                    sync_folder(folder)
        sync_folder(self._incoming)
        return odd

    def _name_again(self, path: Path) -> str:
        """Move a whole file to where its UIDs say, since it may have been acknowledged, and remove
        another; return a line if neither.
        """
        size = path.stat().st_size
        try:
            dataset, pixels = read_header_elements(path, UID_KEYWORDS, told="an image")
            place, whole = _place(dataset), pixels.ended
        except ScanError:
            whole = False
        try:
            # what is not whole was never acknowledged: that takes its name
            kept = whole and self._move_in(path, place)
        except OutputError as error:
            return f"an image that came before stays without its name: {error}"
        if not kept:
            path.unlink()
            self._release(size, 1)
        return ""

    def _hold_mended(self) -> None:
        """Have no job segmented whose state is lost and of which images are missing."""
        for job in self.queue.due("waiting"):
            missing = sum(map(self._missing.missing, job.studies()))
            if job.number in self.queue.mended and missing:
                reason = f"{missing} images were refused for lack of room; send the study again"
                with contextlib.suppress(OutputError):
                    self.queue.end(job, "failed", reason=reason, missing=missing)

    def close(self) -> None:
        """Let another program use the folder."""
        with contextlib.suppress(OutputError):
            self.queue.clock.save()
        self._owner.release()

    @property
    def receiving(self) -> int:
        """Examinations that are not yet complete."""
        with self._lock:
            return len(self._last)

    def store(self, parts: Sequence[bytes | memoryview], size: int, *, image_uid: str) -> Arrival:
        """Keep one DICOM file of ``size`` bytes; one that is here already is left as it is.

        ``image_uid`` is the SOP Instance UID that the sender gave.

        Raises:
            OutputError: when the quota is used up or the disk is full; until the image comes
                again its examination is not complete.
            ScanError: when it is no DICOM image, or not the one it was called.
        """
        try:
            return self._keep(parts, size, image_uid)
        except OutputError:
            study = self._note_refused(parts, image_uid)
            if study is None:
                raise
            return Arrival(study, False)

    def _keep(self, parts: Sequence[bytes | memoryview], size: int, image_uid: str) -> Arrival:
        self._reserve(size)
        arrived = self._incoming / f"{secrets.token_hex(8)}.dcm"
        kept = False
        try:
            with atomic_write(arrived) as partial, partial.open("wb") as stream:
                stream.writelines(parts)
            place = _place(read_dataset(arrived, UID_KEYWORDS))
            if place.stem != image_uid:
                raise ScanError("its SOP Instance UID is not the one it was sent under")
            kept = self._move_in(arrived, place)
            return Arrival(place.parts[0], kept)
        finally:
            if not kept:
                arrived.unlink(missing_ok=True)
                self._release(size, 1)

    def _note_refused(self, parts: Sequence[bytes | memoryview], image_uid: str) -> str | None:
        """Remember an image that there was no room for; return its study if it is here already."""
        start = b"".join(bytes(part[:START_BYTES]) for part in parts)
        try:
            place = _place(read_start(start, UID_KEYWORDS, told="an image"))
        except ScanError:
            return None  # no image of any examination
        study = place.parts[0]
        with self._lock:
            if self._is_kept(place):
                return study
            if place.stem == image_uid:
                self._missing.note(study, place.relative_to(study))
                if study in self._last:
                    self._last[study] = self._now()
        return None

    def _is_here(self, study: str, place: str) -> bool:
        homes = (self._incoming, *(job.images for job in self.queue.holding(study)))
        return any((home / study / place).exists() for home in homes)

    def _is_kept(self, place: Path) -> bool:
        """Whether an image is here; what failed counts as never done, and may come again."""
        jobs = self.queue.holding(place.parts[0])
        homes = [job.images for job in jobs if job.record.state != "failed"]
        return any((home / place).exists() for home in (self._incoming, *homes))

    def _move_in(self, arrived: Path, place: Path) -> bool:
        """Give a file its name; return False when that image is here already."""
        study, target = place.parts[0], self._incoming / place
        with self._lock:
            kept = self._is_kept(place)
            if not kept or study in self._last:
                self._last[study] = self._now()
            if kept:
                return False
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                arrived.replace(target)
                for folder in (target.parent, target.parent.parent, self._incoming):
                    sync_folder(folder)
            except OSError as error:
                with contextlib.suppress(OSError):
                    target.replace(arrived)  # else it would be taken for kept when it comes again
                raise OutputError(f"cannot keep it: {error.strerror or error}") from error
            self._missing.came(study, place.relative_to(study))
            return True

    def close_quiet(self, quiet_seconds: float, *, still_open: Collection[str] = ()) -> list[Job]:
        """Make jobs of the examinations of which nothing came for so long; return them.

        Not of those that are held, nor of those ``still_open``: somebody is sending them.
        """
        with self._lock:
            jobs: list[Job] = []
            trouble: OutputError | OSError | None = None
            for uid in self._quiet(quiet_seconds, still_open):
                study = self._incoming / uid
                count = _count(study)
                if count and self._missing.missing(uid):
                    continue
                try:
                    if count:
                        jobs.append(self.queue.add(study, count + self._complete(study)))
                    del self._last[uid]
                except (OutputError, OSError) as error:
                    trouble = error  # of one examination; the others go on
            if trouble and not jobs:
                raise trouble
            return jobs

    def hold_quiet(self, quiet_seconds: float, *, still_open: Collection[str] = ()) -> list[Held]:
        """Return the examinations that would be complete and are held; each once as it stands."""
        with self._lock:
            quiet = self._quiet(quiet_seconds, still_open)
            held = {uid: self._missing.missing(uid) for uid in quiet}
            new = {uid: n for uid, n in held.items() if n and self._reported.get(uid) != n}
            self._reported |= new
            return [Held(_count(self._incoming / uid), n) for uid, n in new.items()]

    def give_up(self) -> list[Job]:
        """Make failed jobs of the examinations that were held for too long; return them.

        Their images stay for as long as those of other failed jobs, so that the missing ones
        alone can still make them whole.
        """
        with self._lock:
            jobs, now = [], self.queue.clock()
            for uid in self._missing.over(now - self.quota.wait_hours * 3600):
                study, missing = self._incoming / uid, self._missing.missing(uid)
                count = _count(study)
                if uid not in self._reported or uid not in self._last or not count:
                    continue
                reason = (
                    f"{missing} more were refused for lack of room and did not come within "
                    f"{self.quota.wait_hours:g} h; make room and send the study again"
                )
                record = {"state": "failed", "ended": now, "reason": reason, "missing": missing}
                jobs.append(self.queue.add(study, count, **record))
                del self._last[uid]
                self._reported.pop(uid, None)
            return jobs

    def _quiet(self, quiet_seconds: float, still_open: Collection[str]) -> list[str]:
        since = self._now() - quiet_seconds
        return [study for study, x in self._last.items() if x <= since and study not in still_open]

    def _complete(self, study: Path) -> int:
        """Add the slices of these series that came with an earlier job; return how many.

        Without them a series that was interrupted for long could never be whole.
        """
        added = 0
        for earlier in self.queue.holding(study.name):
            for series in study.iterdir():
                for image in (earlier.images / study.name / series.name).glob("*.dcm"):
                    if not (series / image.name).exists():
                        _link(image, series / image.name)
                        self._bytes += image.stat().st_size
                        added += 1
        for folder in (*study.iterdir(), study):
            sync_folder(folder)
        self._objects += added
        return added

    def retry_failed(self) -> list[Job]:
        """Have failed jobs wait for the segmentation again, and return them.

        Not those whose images are gone, and not those whose study has come again since:
        that is a job of its own.
        """
        last = {study: job for job in self.queue.kept() for study in job.studies()}
        again = {
            job.number: job
            for study, job in last.items()
            # of a part of an examination nothing may come: it is to be sent again
            if job.record.state == "failed" and not job.record.missing
            if not (self._incoming / study).exists()
        }
        anew = {"state": "waiting", "starts": 0, "failures": 0, "ended": 0.0, "reason": ""}
        return [self.queue.update(again[number], **anew) for number in sorted(again)]

    def remove_old(self) -> int:
        """Remove the images of jobs that ended too long ago; return of how many jobs."""
        limit = self.queue.clock() - self.quota.keep_days * 86_400
        removed = 0
        for job in self.queue.kept():
            if job.record.state in ("done", "failed") and job.record.ended <= limit:
                gone = _measure(job.images)
                self.queue.drop_images(job)
                self._release(*gone)
                removed += 1
        with self._lock:
            for study in {*self._missing.over(limit)} - self._last.keys() - self.queue.studies():
                self._missing.forget(study)
        with contextlib.suppress(OutputError):  # a minute is lost when the node is killed then
            self.queue.clock.save()
        return removed

    def _reserve(self, size: int) -> None:
        """Count a file before it is written, so that many at once cannot exceed the quota."""
        with self._lock:
            room = self.quota.gigabytes * 1e9 - self._bytes
            if size > room or self._objects >= self.quota.objects:
                raise OutputError(
                    f"the spool is full ({self._objects} objects, {self._bytes / 1e9:.1f} GB); "
                    "finished jobs are removed in time, or allow more with --spool-gb or "
                    "--spool-objects"
                )
            self._bytes, self._objects = self._bytes + size, self._objects + 1

    def _release(self, size: int, objects: int) -> None:
        with self._lock:
            self._bytes, self._objects = self._bytes - size, self._objects - objects


def _own(folder: Path) -> BaseFileLock:
    filelock = optional("filelock", "node")
    lock: BaseFileLock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(
            f"spool: another node uses {folder}; end it, or name another folder"
        ) from error
    return lock


def _place(dataset: Dataset) -> Path:
    with quiet():
        found = [str(value(dataset, keyword) or "") for keyword in UID_KEYWORDS]
    study, series, image = map(check_uid, found)
    return Path(study, series, f"{image}.dcm")


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*.dcm") if path.is_file()]
    return sum(sizes), len(sizes)


def _count(study: Path) -> int:
    return sum(1 for _ in study.glob("*/*.dcm"))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without links
        with atomic_write(target) as partial:
            shutil.copyfile(source, partial)
