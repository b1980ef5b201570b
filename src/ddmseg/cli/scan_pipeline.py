"""The three stages that ``ddmseg segment`` takes each scan through, and the line on the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddmseg.cohort.result_places import ResultPlaces
from ddmseg.cohort.scan import Scan
from ddmseg.errors import QualityError, first_of
from ddmseg.messages import say
from ddmseg.outputs.standing import REQUEST

NAMED = 3
"""Poor structures that the line on a scan names."""

if TYPE_CHECKING:
    from ddmseg.cli.commands.segment import Arguments
    from ddmseg.cli.progress import Bar
    from ddmseg.inference.segmenter import Segmenter
    from ddmseg.outputs.dicom import DicomTarget
    from ddmseg.quality.segmentation import Quality, Segmentation


class ScanPipeline:
    """The stages of segmenting a scan; each may work on another one at the same time.

    With ``waits``, for scans that another process is at work on.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        arguments: Arguments,
        bar: Bar,
        scans: int,
        in_flight: int,
        places: ResultPlaces,
        *,
        waits: bool = False,
    ) -> None:
        from ddmseg.cli.progress import ScanProgress
        from ddmseg.monitoring.recorder import Recorder, monitor_folder

        self.progress = ScanProgress(bar, scans)
        self.stopping = threading.Event()
        self._segmenter = segmenter
        self._arguments = arguments
        self._in_flight = in_flight if in_flight < min(scans, arguments.scans_at_once) else None
        self._places = places
        self._waits = self.stopping if waits else None
        self._recorder = Recorder(monitor_folder(arguments.monitor), say)

    def read(self, numbered: tuple[int, Scan]) -> Work:
        """Read and prepare a scan."""
        from ddmseg.imaging.dicom.series import read_series
        from ddmseg.imaging.nifti import read_volume
        from ddmseg.inference.memory import require_room

        number, scan = numbered
        wanted, voxels = self._arguments, scan.count_voxels()
        request = self._places.take(scan, voxels=voxels, waits=self._waits)
        start = time.perf_counter()
        require_room(self._segmenter, voxels)
        deadline = self._segmenter.start_clock(wanted.segmentation)
        progress = self._stoppable(self.progress.begin(number))
        if scan.series is not None:
            volume = read_series(scan.series)
        else:
            volume = read_volume(scan.path, volume=wanted.volume, accept_nan=wanted.accept_nan)
        state = self._segmenter.prepare(volume, wanted.segmentation, progress, deadline)
        return Work(scan, start, progress, state, request)

    def solve(self, work: Work) -> Work:
        """Encode and denoise."""
        return replace(work, state=self._segmenter.solve(work.state))

    def write(self, work: Work) -> str:
        """Restore, store the results and return the line that sums them up."""
        from ddmseg.inference.budget import budget_line

        scan, arguments = work.scan, self._arguments
        segmentation = self._with_request(self._segmenter.restore(work.state), work.request)
        quality = segmentation.quality
        if quality.verdict == "fail" and arguments.on_fail != "warn":
            self._recorder.record(segmentation, series=scan.series)
            return _left_out(scan, quality, arguments)
        work.progress("write", 0.0)
        written = self._places.store(scan, segmentation, dicom_target(scan, arguments))
        self._recorder.record(segmentation, series=scan.series, written=written)
        shown = next((path for path in written if path.name.endswith("_report.html")), written[0])
        if arguments.label_file is not None:
            for reason in quality.reasons:  # no other file tells them
                say(f"{shown}: {reason}")
        seconds, budget = time.perf_counter() - work.start, segmentation.receipt.get("budget")
        spent = f"{seconds:.1f} s{'' if budget is None else f' ({budget_line(budget, seconds)})'}"
        # what the verdict is about, where it is no pass
        about = [kind for kind, verdict in quality.verdicts.items() if verdict != "pass"]
        verdict = f"{quality.verdict} ({', '.join(about)})" if about else quality.verdict
        dice = f"expected Dice {quality.expected_dice:.2f}{_poor(quality)}"
        return f"{verdict}  {dice}  {spent}  {shown}"

    def _with_request(self, segmentation: Segmentation, request: dict[str, Any]) -> Segmentation:
        """Add to the receipt what was asked for, and fewer scans at a time than asked for."""
        receipt = {**segmentation.receipt, REQUEST: request}
        if self._in_flight is not None:
            receipt["memory"] = {**receipt["memory"], "scans_at_once": self._in_flight}
        return replace(segmentation, receipt=receipt)

    def _stoppable(self, progress: Callable[[str, float], None]) -> Callable[[str, float], None]:
        """Give a scan up between two steps once the command ends."""

        def show(stage: str, fraction: float) -> None:
            if self.stopping.is_set():
                raise _GivenUpError
            progress(stage, fraction)

        return show


@dataclass(frozen=True)
class Work:
    """A scan between two stages."""

    scan: Scan
    start: float
    progress: Callable[[str, float], None]
    state: Any
    request: dict[str, Any]


class _GivenUpError(Exception):
    """The command ends: nobody waits for this scan any more."""


def _poor(quality: Quality) -> str:
    """Name the structures that are drawn poorly, both sides as one; empty for none."""
    from ddmseg.outputs.report.page import grade

    names = [
        name.removeprefix("Left-").removeprefix("Right-")
        for name, dice in quality.expected_dice_by_structure.items()
        if grade(dice) == "poor"
    ]
    return f" (poor: {first_of([*dict.fromkeys(names)], NAMED)})" if names else ""


def _left_out(scan: Scan, quality: Quality, arguments: Arguments) -> str:
    """Return the line for a scan that failed the quality check and leaves no files, or raise it."""
    why = "; ".join(quality.reasons)
    if arguments.on_fail == "error":
        raise QualityError(
            f"failed the quality check ({why}); --on-fail warn writes it all the same"
        )
    return f"fail  expected Dice {quality.expected_dice:.2f}  not written  {scan.path}: {why}"


def dicom_target(scan: Scan, arguments: Arguments) -> DicomTarget | None:
    """What the DICOM results of a scan refer to; None for NIfTI, and for labels alone."""
    from ddmseg.outputs.dicom import DicomTarget

    if scan.series is None or arguments.label_file is not None:
        return None
    return DicomTarget(scan.series, arguments.dicom_seg)
