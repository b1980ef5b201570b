"""Segments the examinations of a queue, one at a time."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.errors import OutputError, QualityError, ScanError
from ddmseg.imaging.dicom.file import is_dicom
from ddmseg.imaging.dicom.seg import SegForm
from ddmseg.imaging.dicom.series import Series, list_series, read_series
from ddmseg.imaging.dicom.series_selection import ANY_MODEL, Trained, choose_series
from ddmseg.inference.options import SegmentOptions
from ddmseg.models.json_reader import read_json
from ddmseg.monitoring.recorder import Recorder
from ddmseg.node.jobs import Job, JobQueue
from ddmseg.node.log import plain_reason
from ddmseg.outputs.dicom import DicomTarget
from ddmseg.outputs.names import DICOM_REPORT, DICOM_SEG, DICOM_VOLUMES, RECEIPT
from ddmseg.outputs.staging import errors_named
from ddmseg.outputs.write import write_outputs

if TYPE_CHECKING:
    from ddmseg.inference.segmenter import Segmenter

MAX_STARTS = 3
"""How often the segmentation of one examination may end the program, or end unexpectedly."""


class StopError(Exception):
    """The node ends; the segmentation is begun again when it starts."""


@dataclass(frozen=True)
class Work:
    """How examinations are segmented; each job has its own folder in ``output``."""

    segmenter: Segmenter
    output: Path
    options: SegmentOptions
    form: SegForm = "binary"
    hold_failed: bool = False  # do not send what fails the quality check
    trained: Trained = ANY_MODEL  # the series is chosen by it
    monitor: Path | None = None  # store that each segmentation adds a line to


class Worker:
    """Takes waiting jobs to ``segmented`` or ``failed``; ``report`` gets one line per job.

    Once ``stop`` is set, a segmentation is given up at its next step.
    """

    def __init__(
        self, queue: JobQueue, work: Work, *, stop: threading.Event, report: Callable[[str], None]
    ) -> None:
        self._queue, self._work, self._stop, self._report = queue, work, stop, report
        self._excused: Counter[int] = Counter()
        self._recorder = Recorder(work.monitor, self._report_monitor)

    def step(self) -> bool:
        """Do the oldest job that waits; return whether there was one.

        After an OutputError, when the disk is full or the like, the job waits behind those for
        which the disk was not yet at fault as often; StopError when the node ends.
        """
        due = self._queue.due("waiting")
        if due:
            self._do(min(due, key=lambda job: (self._excused[job.number], job.number)))
        return bool(due)

    def _do(self, job: Job) -> None:
        if job.record.starts >= MAX_STARTS:
            self._fail(job, f"the segmentation was begun {MAX_STARTS} times and never ended well")
            return
        start = time.perf_counter()
        if job.number not in self._excused:
            job = self._queue.update(job, starts=job.record.starts + 1)
        try:
            job = self._segment(job)
        except OutputError:
            # a full disk, say: no fault of the scan, so the next start is not counted again
            self._excused[job.number] += 1
            raise
        except StopError:
            self._queue.update(job, starts=job.record.starts - 1)
            raise
        except Exception as error:
            # of a scan's own fault the same would come again
            own = isinstance(error, ScanError | QualityError)
            if not own:
                del self._excused[job.number]
            if not own and job.record.starts < MAX_STARTS:
                raise
            self._fail(job, plain_reason(error, job.images, job.folder))
            return
        record, seconds = job.record, time.perf_counter() - start
        series = "without number" if record.series is None else record.series
        self._report(
            f"{job.name}: series {series}, {record.instances} images, {record.verdict}, "
            f"{len(record.files)} files to send, {seconds:.1f} s"
        )

    def _fail(self, job: Job, reason: str) -> None:
        self._queue.end(job, "failed", reason=reason)
        self._report(f"{job.name}: {job.record.instances} images, not segmented: {reason}")

    def _segment(self, job: Job) -> Job:
        series = _choose(job.images, self._work.trained)
        folder = self._work.output / job.name
        # whoever finds a receipt finds the whole set: the program ended just after it
        if not (folder / f"{series.name}{RECEIPT}").exists():
            self._write(series, folder)
        verdict = _verdict(folder / f"{series.name}_qc.json")
        names = [f"{series.name}{suffix}" for suffix in (DICOM_SEG, DICOM_VOLUMES, DICOM_REPORT)]
        held = self._work.hold_failed and verdict == "fail"
        files = () if held else tuple(name for name in names if (folder / name).exists())
        done = {"stem": series.name, "verdict": verdict, "files": files, "failures": 0}
        return self._queue.update(job, state="segmented", series=series.number, **done)

    def _write(self, series: Series, folder: Path) -> None:
        options, target = self._work.options, DicomTarget(series, self._work.form)
        target.check()
        for leftover in folder.glob(".*"):  # a hidden folder that a write cut short has left
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        volume = read_series(series)
        segmentation = self._work.segmenter(volume, options, progress=self._go_on)
        with errors_named(folder):  # others cannot look into it
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        written = write_outputs(
            segmentation, folder, stem=series.name, overwrite=True, options=options, dicom=target
        )
        self._recorder.record(segmentation, series=series, written=written)

    def _report_monitor(self, line: str) -> None:
        """Pass on a line, but of an unexpected error only the kind: its text may quote anything."""
        head, unexpected, rest = line.partition(": unexpected ")
        kind = rest.partition(":")[0]
        self._report(plain_reason(OutputError(f"{head}{unexpected}{kind}")))

    def _go_on(self, stage: str, fraction: float) -> None:
        if self._stop.is_set():
            raise StopError


def _choose(images: Path, model: Trained) -> Series:
    """The series that fits best, without its description: people write names there, and it would
    become part of messages and of the names of files.
    """
    found = list_series(images)
    if damaged := sum(not is_dicom(path) for path in images.rglob("*.dcm")):
        raise ScanError(f"{damaged} of the images that came are no DICOM any more; send them again")
    plain = [replace(series, description="") for series in found]
    try:
        chosen = choose_series(found, model=model).series
    except ScanError:
        choose_series(plain, model=model)  # fails as well, in other words
        raise ScanError("no series of this examination can be segmented") from None
    return replace(chosen, description="")


def _verdict(path: Path) -> str:
    try:
        return str(read_json(path)["verdict"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScanError(f"{path.name}: cannot be read; the results were changed") from error
