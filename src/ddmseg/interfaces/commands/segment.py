"""``ddmseg segment``: scans in, labels, maps, volumes, verdict and report out."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ddmseg.errors import DdmsegError, OutputError, QualityError, SettingsError, UsageError
from ddmseg.interfaces.inputs import Scan, find_scans, series_lines
from ddmseg.interfaces.messages import say, say_error
from ddmseg.pipeline.options import SegmentOptions

if TYPE_CHECKING:
    from ddmseg.interfaces.progress import ScanProgress
    from ddmseg.pipeline.dicom_outputs import DicomTarget
    from ddmseg.pipeline.inference import Segmenter
    from ddmseg.pipeline.monitoring.recorder import Recorder
    from ddmseg.pipeline.segmentation import Quality


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Label brain MRI scans: labels, volumes, maps, a verdict and a report for each.

    Research software: not a medical device and not for diagnosis.
    """

    scans: Annotated[Positional[tuple[Path, ...]], arg(metavar="IN", help_behavior_hint="")]
    """NIfTI files, folders of them, BIDS folders (every T1w scan), or DICOM: folders, zip
    archives, exported disks (the series that fits best of each)."""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="OUT", help_behavior_hint="(required)")
    ] = None
    """Folder for the results."""
    segmentation: SegmentOptions = field(default_factory=SegmentOptions)
    model: Annotated[str, arg(metavar="NAME")] = "anatomy"
    """Name of a shipped model (see ddmseg models), or a .safetensors file with its card."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    on_fail: Literal["warn", "skip", "error"] = "warn"
    """When the quality check fails a scan: write its results all the same, leave them out, or
    leave them out and end with exit code 1."""
    overwrite: bool = False
    """Replace the results of an earlier run."""
    volume: Annotated[int | None, arg(metavar="N", help_behavior_hint="(needed only there)")] = None
    """Which volume of a 4-D scan, counted from 0."""
    series: Annotated[str | None, arg(metavar="N", help_behavior_hint="(the best fit)")] = None
    """Which series of a DICOM input: its number or its Series Instance UID."""
    list_series: bool = False
    """Show the series of DICOM inputs and stop."""
    dicom_seg: Literal["binary", "labelmap", "none"] = "binary"
    """How labels of a DICOM input are also stored as DICOM SEG: every viewer reads binary, new
    ones the smaller labelmap; or not at all."""
    accept_nan: bool = False
    """Put 0 where voxels are NaN or infinite, instead of refusing the scan."""
    no_cache: bool = False
    """Neither read nor keep the features of earlier runs."""
    monitor: Annotated[
        Path | None, arg(metavar="STORE", help_behavior_hint="(the variable DDMSEG_MONITOR)")
    ] = None
    """Folder to which each run adds a line of statistics, without names, for ddmseg monitor."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(torch's choice)")] = None
    """CPU threads."""
    debug: bool = False
    """Show where an unexpected error came from."""

    @property
    def folder(self) -> Path:
        """The folder for the results.

        Raises:
            UsageError: when none was named.
        """
        if self.output is None:
            raise UsageError("--output is missing; see ddmseg segment --help")
        return self.output


def run(arguments: Arguments) -> int:
    """Segment every scan that can be; return 0, or 1 when some could not.

    Raises:
        DdmsegError: when nothing can be done at all: wrong model, device or output.
    """
    from ddmseg.pipeline.memory import keep_freed_memory
    from ddmseg.pipeline.zoo import model_path

    if arguments.list_series:
        return _list_series(arguments)
    if arguments.threads is not None and arguments.threads < 1:
        raise SettingsError(f"threads: got {arguments.threads}; it must be at least 1")
    model_path(arguments.model)  # a wrong name must not cost the seconds that torch needs
    _check_output(arguments.folder)
    scans, refused = find_scans(arguments.scans, series=arguments.series, tell=say)
    for one in refused:
        say_error(one.error, about=str(one.path))
    total = len(scans) + len(refused)
    todo = [scan for scan in scans if _is_free(scan, arguments)]
    if todo:
        keep_freed_memory()
        done = _segment_all(todo, arguments)
    else:
        done = 0
    if done < total and total > 1:
        print(f"{total - done} of {total} failed", file=sys.stderr)
    return 0 if done == total else 1


def _list_series(arguments: Arguments) -> int:
    """Print a line for each series; return 1 when an input holds none."""
    failed = 0
    for path in arguments.scans:
        try:
            for line in series_lines(path):
                print(line, flush=True)
        except DdmsegError as error:
            say_error(error, about=str(path))
            failed += 1
    return 1 if failed else 0


def _check_output(folder: Path) -> None:
    """Find out before the work whether its result can be stored."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file; the results need a folder: name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest}: no permission to write there; choose another folder")


def _is_free(scan: Scan, arguments: Arguments) -> bool:
    """Say whether results can be written; complain where not, or where old ones are in the way."""
    from ddmseg.pipeline.outputs import existing_outputs

    target = _dicom_target(scan, arguments)
    if target is not None:
        try:
            target.check()
        except DdmsegError as error:
            say_error(error, about=str(scan.path))
            return False
    existing = existing_outputs(scan.folder(arguments.folder), scan.stem)
    if not existing or arguments.overwrite:
        return True
    say_error(
        OutputError(
            f"{existing[0]} exists already; pass --overwrite to replace it, or name another folder"
        ),
        about=str(scan.path),
    )
    return False


def _dicom_target(scan: Scan, arguments: Arguments) -> DicomTarget | None:
    """What the DICOM results of a scan refer to; None for NIfTI."""
    from ddmseg.pipeline.dicom_outputs import DicomTarget

    return DicomTarget(scan.series, arguments.dicom_seg) if scan.series is not None else None


def _segment_all(scans: list[Scan], arguments: Arguments) -> int:
    """Segment scan after scan; return how many were done."""
    from ddmseg.interfaces.progress import ScanProgress, progress_bar
    from ddmseg.pipeline.monitoring.recorder import Recorder, monitor_folder

    segmenter = _load(arguments)
    recorder = Recorder(monitor_folder(arguments.monitor), say)
    done = 0
    with progress_bar(len(scans)) as bar:
        progress = ScanProgress(bar, len(scans))
        for scan in scans:
            progress.begin()
            try:
                line = _segment_one(segmenter, scan, arguments, progress, recorder)
                print(line, flush=True)
                done += 1
            except BrokenPipeError:
                raise
            except Exception as error:  # the other scans are done all the same
                say_error(error, about=str(scan.path), debug=arguments.debug)
    return done


def _load(arguments: Arguments) -> Segmenter:
    import torch

    from ddmseg.pipeline.cache import FeatureCache, cache_folder
    from ddmseg.pipeline.inference import Segmenter

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    folder = None if arguments.no_cache else cache_folder()
    # each scan comes once in a run: keeping its features in memory would help nobody
    cache = FeatureCache(folder, memory_bytes=0) if folder is not None else None
    return Segmenter.load(arguments.model, device=arguments.device, cache=cache)


def _segment_one(
    segmenter: Segmenter,
    scan: Scan,
    arguments: Arguments,
    progress: ScanProgress,
    recorder: Recorder,
) -> str:
    """Segment one scan, store the results and return the line that sums them up."""
    from ddmseg.imaging.dicom import read_series
    from ddmseg.imaging.nifti import read_volume
    from ddmseg.pipeline.outputs import write_outputs

    start = time.perf_counter()
    if scan.series is not None:
        volume = read_series(scan.series)
    else:
        volume = read_volume(scan.path, volume=arguments.volume, accept_nan=arguments.accept_nan)
    segmentation = segmenter(volume, arguments.segmentation, progress=progress)
    quality = segmentation.quality
    if quality.verdict == "fail" and arguments.on_fail != "warn":
        recorder.record(segmentation, series=scan.series)
        return _left_out(scan, quality, arguments)
    progress("write", 0.0)
    written = write_outputs(
        segmentation,
        scan.folder(arguments.folder),
        stem=scan.stem,
        overwrite=arguments.overwrite,
        probabilities=arguments.segmentation.probabilities,
        dicom=_dicom_target(scan, arguments),
    )
    recorder.record(segmentation, series=scan.series, written=written)
    (report,) = [path for path in written if path.name.endswith("_report.html")]
    seconds = time.perf_counter() - start
    return (
        f"{quality.verdict}  expected Dice {quality.expected_dice:.2f}  {seconds:.1f} s  {report}"
    )


def _left_out(scan: Scan, quality: Quality, arguments: Arguments) -> str:
    """Return the line for a scan that failed the quality check and leaves no files.

    Raises:
        QualityError: when that is to count as a failure.
    """
    why = "; ".join(quality.reasons)
    if arguments.on_fail == "error":
        raise QualityError(
            f"failed the quality check ({why}); --on-fail warn writes it all the same"
        )
    return f"fail  expected Dice {quality.expected_dice:.2f}  not written  {scan.path}: {why}"
