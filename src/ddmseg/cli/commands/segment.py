"""``ddmseg segment``: scans in, labels, maps, volumes, verdict and report out."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ddmseg import __version__
from ddmseg.cli.scan_pipeline import ScanPipeline, dicom_target
from ddmseg.cohort.inputs import find_scans, series_lines
from ddmseg.cohort.result_places import BusyError, DoneAlreadyError, LabelFile, ResultPlaces
from ddmseg.cohort.scan import Refused, Scan
from ddmseg.errors import OutputError, SettingsError, UsageError
from ddmseg.inference.options import SegmentOptions
from ddmseg.messages import say, say_error, show
from ddmseg.models.device import DeviceName

if TYPE_CHECKING:
    from ddmseg.inference.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every command that segments scans."""

    segmentation: SegmentOptions = field(default_factory=SegmentOptions)
    model: Annotated[str, arg(metavar="NAME")] = "anatomy"
    """Name of a shipped model (see ddmseg models), or a .safetensors file with its card."""
    device: DeviceName = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one, mps is the GPU of a Mac."""
    on_fail: Literal["warn", "skip", "error"] = "warn"
    """When the quality check fails a scan: write its results all the same, leave them out, or
    leave them out and end with exit code 1."""
    overwrite: bool = False
    """Replace the results of an earlier run."""
    accept_nan: bool = False
    """Put 0 where voxels are NaN or infinite, instead of refusing the scan."""
    no_cache: bool = False
    """Neither read nor keep the features of earlier runs; the variables DDMSEG_CACHE and
    DDMSEG_CACHE_MB name their folder and how much it may hold."""
    monitor: Annotated[
        Path | None, arg(metavar="STORE", help_behavior_hint="(the variable DDMSEG_MONITOR)")
    ] = None
    """Folder to which each run adds a line of statistics, without names, for ddmseg monitor."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(torch's choice)")] = None
    """CPU threads."""
    scans_at_once: Annotated[int, arg(metavar="N")] = 2
    """How many scans may be in work at the same time, as far as the memory goes: while one is
    with the network, others are read and written. One with --budget."""
    debug: bool = False
    """Show where an unexpected error came from."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is segmented, and where the results go."""

    scans: Annotated[Positional[tuple[Path, ...]], arg(metavar="IN", help_behavior_hint="")]
    """NIfTI files, folders of them or of patients, BIDS folders (every T1w scan), or DICOM:
    folders, zip archives, exported disks (of each examination the series that fits best)."""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="OUT", help_behavior_hint="(required)")
    ] = None
    """Folder for the results; or, for one scan, a file .nii.gz or .nii, which gets the labels
    and nothing else is written."""
    root: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder above all scans: results go to OUT in the folders that scans have below it."""
    volume: Annotated[int | None, arg(metavar="N", help_behavior_hint="(needed only there)")] = None
    """Which volume of a 4-D scan, counted from 0."""
    series: Annotated[str | None, arg(metavar="N", help_behavior_hint="(the best fit)")] = None
    """Which series of a DICOM input: its number or its Series Instance UID."""
    list_series: bool = False
    """Show the series of DICOM inputs and stop."""
    dicom_seg: Literal["binary", "labelmap", "none"] = "binary"
    """How labels of a DICOM input are also stored as DICOM SEG: every viewer reads binary, new
    ones the smaller labelmap; none leaves out the SEG and the report of its volumes."""


@dataclass(frozen=True, kw_only=True)
class Arguments(RunOptions, Inputs):
    """Label brain MRI scans: labels, volumes, maps, a verdict and a report for each.

    Research software: not a medical device and not for diagnosis.
    """

    @property
    def folder(self) -> Path:
        """The folder for the results, or the file for the labels; there must be one."""
        if self.output is None:
            raise UsageError("--output is missing; see ddmseg segment --help")
        return self.output

    @property
    def label_file(self) -> Path | None:
        """The file for the labels; None where the output is a folder."""
        from ddmseg.outputs.names import is_label_file

        return self.folder if is_label_file(self.folder) else None


def run(arguments: Arguments) -> int:
    """Segment every scan that can be; return 0, or 1 when some could not."""
    from ddmseg.models.card import trained_on
    from ddmseg.outputs.names import check_label_file, check_place

    if arguments.list_series:
        return _list_series(arguments)
    check_options(arguments)
    # a wrong name must not cost the seconds that torch needs
    trained = trained_on(arguments.model)
    if arguments.label_file is None:
        check_place(arguments.folder, "")
    else:
        check_label_file(arguments.folder, overwrite=arguments.overwrite)
    series, root = arguments.series, arguments.root
    scans, refused = find_scans(arguments.scans, series=series, model=trained, root=root, tell=say)
    if arguments.label_file is not None:
        _check_one(arguments, arguments.label_file, scans, len(scans) + len(refused))
    return segment_found(scans, refused, arguments)


def _check_one(arguments: Arguments, file: Path, scans: Sequence[Scan], inputs: int) -> None:
    """Refuse what a file of labels cannot hold, and a file that is the scan itself."""
    if inputs > 1:
        raise UsageError(
            f"--output {file}: a file for the labels of one scan, and {inputs} were given; "
            "name a folder"
        )
    wanted = arguments.segmentation
    beside = {
        "--root": arguments.root,
        "--trace": wanted.trace,
        "--probabilities": wanted.probabilities,
    }
    if names := [name for name, given in beside.items() if given]:
        raise UsageError(f"--output {file}: {names[0]} needs a folder for the results; name one")
    if any(file.exists() and file.samefile(scan.path) for scan in scans):
        raise UsageError(f"--output {file}: this is the scan itself; name another file")


def check_options(options: RunOptions) -> None:
    """Refuse what cannot be by a SettingsError, before anything is looked for."""
    from ddmseg.inference.cache import cache_limit

    for name in ("threads", "scans_at_once"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SettingsError(f"{name}: got {value}; it must be at least 1")
    if not options.no_cache:
        cache_limit()  # a wrong DDMSEG_CACHE_MB is said before the first scan is read


@dataclass
class _Tally:
    """How many scans have their results, had them already, and could not be told of on stdout."""

    done: int = 0
    again: int = 0
    untold: int = 0


def segment_found(scans: Sequence[Scan], refused: Sequence[Refused], arguments: Arguments) -> int:
    """Segment scans that were found; return 0, or 1 when some could not."""
    for one in refused:
        say_error(one.error, about=str(one.path), debug=arguments.debug)
    kind = ResultPlaces if arguments.label_file is None else LabelFile
    places, tally = kind(arguments.folder, _asked(arguments), arguments.overwrite), _Tally()
    if todo := _left_to_do(scans, places, arguments, tally):
        _segment_all(todo, arguments, places, tally)
    total = len(scans) + len(refused)
    if tally.again:
        same = "same scan, weights, settings and version"
        say(f"{tally.again} of {total} done already ({same}); --overwrite does them again")
    if tally.done < total and total > 1:
        say(f"{total - tally.done} of {total} failed")
    if tally.untold:
        lost = "stdout cannot be written: lines of results are missing there"
        say_error(OutputError(f"{lost}; the results themselves are stored"))
    return 0 if tally.done == total and not tally.untold else 1


def _left_to_do(
    scans: Sequence[Scan], places: ResultPlaces, arguments: Arguments, tally: _Tally
) -> list[Scan]:
    """Return the scans that are to be done; count what was done before, complain of others."""
    todo = []
    for scan in scans:
        try:
            target = dicom_target(scan, arguments)
            if target is not None:
                target.check()
            if not places.is_done(scan):
                todo.append(scan)
                continue
            tally.done, tally.again = tally.done + 1, tally.again + 1
        except Exception as error:  # the other scans are done all the same
            say_error(error, about=str(scan.path), debug=arguments.debug)
    return todo


def _asked(arguments: Arguments) -> dict[str, Any]:
    """Return what decides a result beside the scan."""
    from ddmseg.models.card import read_card
    from ddmseg.models.zoo import model_path

    card = read_card(model_path(arguments.model).with_suffix(".json"))
    return {
        "ddmseg": __version__,
        "weights_sha256": card.checksum,
        "volume": arguments.volume,
        "accept_nan": arguments.accept_nan,
        "dicom_seg": arguments.dicom_seg,
        **asdict(arguments.segmentation),
    }


def _list_series(arguments: Arguments) -> int:
    """Print a line for each series; return 1 when an input holds none."""
    code = 0
    for path in arguments.scans:
        try:
            for line in series_lines(path):
                print(line, flush=True)
        except BrokenPipeError:
            raise
        except Exception as error:
            say_error(error, about=str(path), debug=arguments.debug)
            code = 1
    return code


def _segment_all(
    scans: list[Scan], arguments: Arguments, places: ResultPlaces, tally: _Tally
) -> None:
    """Segment every scan, several at a time; what another process is at work on comes last."""
    from ddmseg.inference.cache import CACHE_VARIABLE, LIMIT_VARIABLE
    from ddmseg.models.available_memory import keep_freed_memory

    keep_freed_memory()
    segmenter = _load(arguments)
    cache = segmenter.model_stages.cache
    unasked = None if os.environ.get(CACHE_VARIABLE) else cache
    new = unasked is not None and not unasked.holds_entries
    try:
        later = _one_pass(segmenter, scans, arguments, places, tally)
        if later:
            say(f"waiting for another process that is at work on {len(later)} of the scans")
            _one_pass(segmenter, later, arguments, places, tally, waits=True)
        if new and unasked is not None and unasked.holds_entries:
            say(
                f"features are kept in {unasked.folder} for the next run, at most "
                f"{unasked.max_bytes / 1e6:g} MB ({LIMIT_VARIABLE}), the oldest go first; none "
                f"with --no-cache or {CACHE_VARIABLE}=off"
            )
    finally:
        places.release_all()


def _one_pass(
    segmenter: Segmenter,
    scans: list[Scan],
    arguments: Arguments,
    places: ResultPlaces,
    tally: _Tally,
    *,
    waits: bool = False,
) -> list[Scan]:
    """Take each scan through all stages; return those that another process is at work on.

    Lines are shown in the order of the scans.
    """
    from ddmseg.cli.progress import progress_bar
    from ddmseg.inference.scan_queue import overlapped

    busy = []
    with progress_bar(len(scans)) as bar:
        in_flight = _in_flight(segmenter, scans, arguments)
        pipeline = ScanPipeline(
            segmenter, arguments, bar, len(scans), in_flight, places, waits=waits
        )
        outcomes = overlapped(
            list(enumerate(scans, start=1)),
            (pipeline.read, pipeline.solve, pipeline.write),
            in_flight=in_flight,
            stopping=pipeline.stopping,
        )
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                number, scan = outcome.item
                pipeline.progress.end(number)
                places.release(scan)
                if isinstance(outcome.error, BusyError):
                    busy.append(scan)
                elif isinstance(outcome.error, DoneAlreadyError):
                    tally.done, tally.again = tally.done + 1, tally.again + 1
                elif outcome.error is None:
                    tally.done += 1
                    tally.untold += not show(outcome.result)
                else:  # the other scans are done all the same
                    say_error(outcome.error, about=str(scan.path), debug=arguments.debug)
    return busy


def _in_flight(segmenter: Segmenter, scans: Sequence[Scan], arguments: Arguments) -> int:
    """Return how many scans may be in work at a time."""
    from ddmseg.inference.memory import scans_in_flight

    if len(scans) == 1 or math.isfinite(arguments.segmentation.budget):
        return 1  # a scan with a budget must not wait for others, nor share the processors
    voxels = [scan.count_voxels() for scan in scans]
    return scans_in_flight(segmenter, voxels, most=arguments.scans_at_once)


def _load(arguments: Arguments) -> Segmenter:
    import torch

    from ddmseg.inference.cache import FeatureCache, cache_folder, cache_limit
    from ddmseg.inference.segmenter import Segmenter

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    folder = None if arguments.no_cache else cache_folder()
    cache = FeatureCache(folder, cache_limit()) if folder is not None else None
    return Segmenter.load(arguments.model, device=arguments.device, cache=cache)
