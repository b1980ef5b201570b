"""Segments the examinations of a queue, one at a time."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ddmseg.errors import OutputError, QualityError, ScanError
from ddmseg.imaging.dicom.file import is_dicom
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
    """How examinations are segmented; each job has its own folder in ``output``.

    Attributes:
        hold_failed: do not send what fails the quality check.
        trained: what the model was trained on; the series is chosen by it.
        monitor: store that each segmentation adds a line to; None adds nothing.
    """

    segmenter: Segmenter
    output: Path
    options: SegmentOptions
    form: Literal["binary", "labelmap"] = "binary"
    hold_failed: bool = False
    trained: Trained = ANY_MODEL
    monitor: Path | None = None


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

        Raises:
            OutputError: when the disk is full or the like; the job waits, behind those for
                which the disk was not yet at fault as often.
            StopError: when the node ends.
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
        except (ScanError, QualityError) as error:
            # the scan's own fault: the same would come of it again
            self._fail(job, plain_reason(error, job.images, job.folder))
            return
        except OutputError:
            # a full disk, say: no fault of the scan, so the next start is not counted again
            self._excused[job.number] += 1
            raise
        except StopError:
            self._queue.update(job, starts=job.record.starts - 1)
            raise
        except Exception as error:
            del self._excused[job.number]
            if job.record.starts >= MAX_STARTS:
                self._fail(job, plain_reason(error, job.images, job.folder))
                return
            raise
        seconds = time.perf_counter() - start
        series = "without number" if job.record.series is None else job.record.series
        self._report(
            f"{job.name}: series {series}, {job.record.instances} images, "
            f"{job.record.verdict}, {len(job.record.files)} files to send, {seconds:.1f} s"
        )

    def _fail(self, job: Job, reason: str) -> None:
        self._queue.end(job, "failed", reason=reason)
        self._report(f"{job.name}: {job.record.instances} images, not segmented: {reason}")

    def _segment(self, job: Job) -> Job:
        """Segment, write the results and note that it was done."""
        work = self._work
        series = _choose(job.images, work.trained)
        folder = work.output / job.name
        # whoever finds a receipt finds the whole set: the program ended just after it
        if not (folder / f"{series.name}{RECEIPT}").exists():
            self._write(series, folder)
        verdict = _verdict(folder / f"{series.name}_qc.json")
        names = [f"{series.name}{suffix}" for suffix in (DICOM_SEG, DICOM_VOLUMES, DICOM_REPORT)]
        held = work.hold_failed and verdict == "fail"
        return self._queue.update(
            job,
            state="segmented",
            series=series.number,
            stem=series.name,
            verdict=verdict,
            files=() if held else tuple(name for name in names if (folder / name).exists()),
            failures=0,
        )

    def _write(self, series: Series, folder: Path) -> None:
        target = DicomTarget(series, self._work.form)
        target.check()
        for leftover in folder.glob(".*"):  # a hidden folder that a write cut short has left
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        volume = read_series(series)
        segmentation = self._work.segmenter(volume, self._work.options, progress=self._go_on)
        _make_private(folder)
        written = write_outputs(
            segmentation,
            folder,
            stem=series.name,
            overwrite=True,
            options=self._work.options,
            dicom=target,
        )
        self._recorder.record(segmentation, series=series, written=written)

    def _report_monitor(self, line: str) -> None:
        """Pass on what the monitor could not do, and of an unexpected error only the kind: its
        text may quote anything.
        """
        head, unexpected, rest = line.partition(": unexpected ")
        kind = rest.partition(":")[0]
        self._report(plain_reason(OutputError(f"{head}{unexpected}{kind}")))

    def _go_on(self, stage: str, fraction: float) -> None:
        """Between two steps of a segmentation: go on, unless the node ends."""
        if self._stop.is_set():
            raise StopError


def _choose(images: Path, model: Trained) -> Series:
    """Return the series that fits best, without its description.

    People write all sorts of things there, names among them, and it would become part
    of messages and of the names of files.
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


def _make_private(folder: Path) -> None:
    """Make a folder for results that others cannot look into."""
    with errors_named(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def _verdict(path: Path) -> str:
    try:
        return str(read_json(path)["verdict"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScanError(f"{path.name}: cannot be read; the results were changed") from error
