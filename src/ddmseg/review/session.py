"""One review of an output folder: what is shown of each scan, and what is decided."""

from __future__ import annotations

import hashlib
import math
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ddmseg.cohort.source_scan import find_source_scan
from ddmseg.errors import (
    DdmsegError,
    OutputError,
    Reason,
    ScanError,
    UsageError,
    about_file,
    printable,
)
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.nifti_guard import open_raw
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.card import Card
from ddmseg.outputs.names import RECEIPT
from ddmseg.outputs.report.thumbnail import report_thumbnail
from ddmseg.quality.doubtful_regions import (
    DoubtfulRegion,
    entropy_doubt,
    error_probability,
    find_doubtful_regions,
)
from ddmseg.quality.segmentation import Quality, Segmentation
from ddmseg.quality.standing_out import standing_out
from ddmseg.review import display
from ddmseg.review.correction import corrected_bytes, edit_metrics, read_correction, staged
from ddmseg.review.files import found_sha256
from ddmseg.review.log import ReviewLog
from ddmseg.review.results import (
    CORRECTED,
    FRAMES,
    LABELS,
    MAPS,
    ScanResult,
    Summary,
    damaged_result,
    find_results,
    read_summary,
)
from ddmseg.review.verification import wrong_file

T = TypeVar("T")
ACTIONS = ("accept", "reject")
MAX_NOTE = 2000
"""Characters of a note."""
THUMBNAIL_HEIGHT = 132


class SupersededError(OutputError):
    """The labels were changed after the page had loaded them."""


@dataclass(frozen=True)
class Row:
    """A scan of the table, with the entries of its decisions, the newest last."""

    result: ScanResult
    summary: Summary
    decisions: list[dict[str, Any]]
    changed: str = ""  # labels that are not those of the newest decision


class Review:
    """What the review page shows and does; safe to call from several threads.

    The scans may lie in the folders ``scans`` or in the output folder itself. The name of the
    reviewer is written into each decision. Methods that take the identifier of a scan raise
    UsageError when there is none of it.
    """

    def __init__(self, folder: Path, *, scans: Sequence[Path] = (), reviewer: str = "") -> None:
        self.folder, self.reviewer = folder, reviewer
        self.scans = (*scans, folder)
        self.log = ReviewLog(folder)
        self.log.settle()
        self.problems: list[str] = []
        self._results = _found(folder)
        self._scan_cache = _Cache(2)
        self._frame_cache = _Cache(2)
        self._small_cache = _Cache(1000)

    def rows(self) -> list[Row]:
        """Return the table, worst first; what cannot be read goes to ``problems``."""
        self._results = _found(self.folder)
        rows: list[Row] = []
        decisions, problems = self._read_log()
        for result in self._results.values():
            try:
                rows.append(self._row(result, decisions))
            except ScanError as error:
                problems.append(error.args[0])  # not its text: its argument may carry a code
            except Exception as error:  # whatever a damaged file brings up, it concerns one row
                problems.append(damaged_result(result, error))
            else:
                if why := rows[-1].changed:
                    name = printable(result.name)
                    sentence = f"{name}: {why}; look at them again"
                    problems.append(Reason(sentence, "labels_changed", {"name": name, "why": why}))
        self.problems = problems
        return sorted(rows, key=lambda row: (row.summary.worst_first, row.result.name))

    def row(self, identifier: str) -> Row:
        """Return one scan."""
        return self._row(self.result(identifier), self._read_log()[0])

    def result(self, identifier: str) -> ScanResult:
        """Return the files of one scan."""
        if identifier in self._results:
            return self._results[identifier]
        said = "no scan of that identifier; open the table again"
        raise UsageError(Reason(said, "no_such_scan", {}))

    def _row(self, result: ScanResult, decisions: dict[str, list[dict[str, Any]]]) -> Row:
        found = decisions.get(result.name, [])
        changed = ""
        if found:
            stamps = _stamp(result), _stamp(result, CORRECTED), found[-1].get("previous_sha256")
            key = (result.identifier, "decided", *stamps)
            changed = self._small_cache.get(key, lambda: wrong_file(self.folder, found[-1]))
        return Row(result, read_summary(result), found, changed)

    def _read_log(self) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
        found: dict[str, list[dict[str, Any]]] = {}
        try:
            wrong = self.log.verify().problem
            for entry in self.log.entries():
                found.setdefault(entry.get("scan", ""), []).append(entry)
        except ScanError as error:
            return found, [error.args[0]]
        return found, [self.log.changed(wrong)] if wrong else []

    def source_scan(self, identifier: str) -> Volume | None:
        """Return the scan that was segmented, or None where it is not found."""
        result = self.result(identifier)

        def find() -> Volume | None:
            return find_source_scan(result.stem, read_summary(result).receipt, self.scans)

        stamps = _stamp(result), _stamp(result, RECEIPT)
        return self._scan_cache.get((identifier, *stamps), find)

    def labels(self, identifier: str, *, corrected: bool = False) -> LabelMap:
        """Return the original labels, or the corrected ones; ScanError when they are damaged, or
        far larger than the scan.
        """
        result = self.result(identifier)
        path = result.path(CORRECTED if corrected else LABELS)
        stated = read_summary(result).receipt.get("input")
        display.check_label_size(path, stated.get("shape") if isinstance(stated, dict) else None)
        return read_label_map(path)

    def scan_bytes(self, identifier: str) -> bytes:
        """Return the scan for the viewer, black where it was not found."""
        scan = self.source_scan(identifier)
        if scan is not None:
            return display.display_scan(scan)
        labels = self.labels(identifier)
        return display.display_nothing(labels.shape, labels.affine)

    def label_bytes(self, identifier: str, *, corrected: bool = False) -> bytes:
        """Return labels for the viewer."""
        labels = self.labels(identifier, corrected=corrected)
        return display.display_labels(labels.data, labels.affine)

    def map_bytes(self, identifier: str, kind: str) -> bytes:
        """Return the discrepancy or the uncertainty for the viewer; UsageError for other kinds."""
        values, labels = self._map(identifier, kind)
        top = 1.0
        if kind == "discrepancy":
            top = display.discrepancy_top(self._temperature(identifier))
        return display.display_map(values, labels.affine, top=top)

    def _map(self, identifier: str, kind: str) -> tuple[NDArray[np.float32], LabelMap]:
        if kind not in MAPS:
            raise UsageError(f"map: got '{kind}'; allowed are {', '.join(MAPS)}")
        path = self.result(identifier).path(MAPS[kind])
        labels = self.labels(identifier)
        # the largest that can fit, so that another one is refused before it takes memory
        most = max(labels.data.size, display.SMALL_VOXELS)
        values = open_raw(path, max_voxels=most).voxels()
        if values.shape != labels.shape:
            why = "not on the grid of the labels; segment the scan again"
            raise ScanError(about_file(path, why, "other_grid"))
        return values.astype(np.float32, copy=False), labels

    def frame_counts(self, identifier: str) -> dict[str, int]:
        """Return how many samples and steps there are to look at, 0 without a trace."""
        result = self.result(identifier)
        return {
            kind: display.frame_count(result.path(suffix)) if result.has(suffix) else 0
            for kind, suffix in FRAMES.items()
        }

    def frame_bytes(self, identifier: str, kind: str, place: int) -> bytes:
        """Return one of the ``samples`` or ``steps`` for the viewer, counted from 0."""
        if kind not in FRAMES:
            raise UsageError(f"frames: got '{kind}'; allowed are {', '.join(FRAMES)}")
        result = self.result(identifier)

        def load() -> display.Frames:
            labels = self.labels(identifier)
            return display.Frames(result.path(FRAMES[kind]), labels.shape, labels.affine)

        return self._frame_cache.get((identifier, kind, _stamp(result)), load).frame(place)

    def doubtful_regions(self, identifier: str, kind: str) -> list[DoubtfulRegion]:
        """Return where the original labels are most in doubt, by one of the two maps.

        By the discrepancy what stands out, by size, where the weights are here and say what is
        usual; otherwise the places that are most likely wrong.
        """

        def find() -> list[DoubtfulRegion]:
            values, labels = self._map(identifier, kind)
            grid, card = Grid(labels.shape, labels.affine), self._card(identifier)
            usual = card.calibration.get("standing_out") if card is not None else None
            sigma_D = self._temperature(identifier)
            if kind == "discrepancy" and usual:
                scan = self.source_scan(identifier)
                image = None if scan is None else scan.data
                out = standing_out(values, image, labels.data, usual, grid, temperature=sigma_D)
                return [*out.regions]
            if kind == "discrepancy":
                doubt = error_probability(values, temperature=sigma_D)
            else:
                classes = 1 + len(read_summary(self.result(identifier)).labels)
                doubt = entropy_doubt(values, classes=max(2, classes))
            return find_doubtful_regions(doubt, labels.data, grid)

        return self._small_cache.get((identifier, kind, _stamp(self.result(identifier))), find)

    def _temperature(self, identifier: str) -> float:
        """sigma_D of the weights that made the result; 1, the default, where they are not here."""
        card = self._card(identifier)
        try:
            temperature = float(card.settings["loss"]["temperature"]) if card else 1.0
        except (KeyError, TypeError, ValueError):
            return 1.0
        return temperature if 0 < temperature < math.inf else 1.0

    def _card(self, identifier: str) -> Card | None:
        """Return the card of the weights that made the result; None where they are not here."""
        from ddmseg.models.checkpoint import read_card
        from ddmseg.models.zoo import model_path

        model = read_summary(self.result(identifier)).receipt.get("model", {})
        try:
            card = read_card(model_path(str(model["name"])).with_suffix(".json"))
            return card if card.checksum == model["weights_sha256"] else None
        except (DdmsegError, KeyError, TypeError, ValueError):
            return None

    def thumbnail(self, identifier: str) -> bytes:
        """Return a PNG: outlines in three planes and the discrepancy."""
        key = (identifier, "thumbnail", _stamp(self.result(identifier)))

        def draw() -> bytes:
            discrepancy, labels = self._map(identifier, "discrepancy")
            black = np.zeros(labels.shape, np.float32)
            scan = self.source_scan(identifier) or Volume(black, labels.affine, "scan")
            quality = Quality("warn", 0.0, {}, [], 0, 0)
            shown = Segmentation(scan, labels, black, discrepancy, [], quality, {})
            return report_thumbnail(shown, height=THUMBNAIL_HEIGHT)

        return self._small_cache.get(key, draw)

    def seen(self, identifier: str) -> str:
        """Return the hash of the labels that count now: the corrected ones where there are any."""
        return found_sha256(_counting(self.result(identifier)))

    def decide(self, identifier: str, action: str, *, note: str = "", seen: str) -> dict[str, Any]:
        """Accept or reject the labels that were looked at; return the entry of the log.

        The action is ``accept`` or ``reject``, the note has up to ``MAX_NOTE`` characters, and
        ``seen`` is what :meth:`seen` gave when the page loaded the labels.

        Raises:
            UsageError: for another action or too long a note.
            SupersededError: when the labels have changed since.
            OutputError: when the log cannot be written.
        """
        result = self.result(identifier)
        if action not in ACTIONS:
            raise UsageError(f"action: got '{action}'; allowed are {', '.join(ACTIONS)}")
        if len(note) > MAX_NOTE:
            said = f"note: got {len(note)} characters; at most {MAX_NOTE} are kept"
            raise UsageError(Reason(said, "note_long", {"length": len(note), "most": MAX_NOTE}))
        with self.log.locked():
            self._check_seen(identifier, seen)
            return self.log.append(self._entry(result, action, _counting(result), seen, note))

    def correct(self, identifier: str, upload: bytes, *, seen: str) -> dict[str, Any]:
        """Save an uploaded NIfTI file beside the original; return the entry with what was changed.

        Raises:
            ScanError: when the upload is no correction of these labels.
            SupersededError: when the labels have changed since they were ``seen``.
            OutputError: when it cannot be written.
        """
        result = self.result(identifier)
        original = self.labels(identifier)
        names = {row.index: row.name for row in read_summary(result).labels}
        with tempfile.TemporaryDirectory(prefix="ddmseg-review-") as folder:
            path = Path(folder) / "correction.nii.gz"
            path.write_bytes(upload)
            labels = read_correction(path, original, names)
        metrics = edit_metrics(original, labels, name_of=lambda index: names[index])
        data = corrected_bytes(result, labels)
        with self.log.locked():
            self._check_seen(identifier, seen)
            with staged(result, data) as places:
                digest = hashlib.sha256(data).hexdigest()
                entry = self._entry(result, "correct", places[1], digest)
                return self.log.append({**entry, "edit": asdict(metrics)}, staged=places)

    def _check_seen(self, identifier: str, seen: str) -> None:
        if seen != self.seen(identifier):
            said = (
                "the labels were changed in the meantime, in another window perhaps; "
                "load the scan again and look at them first"
            )
            raise SupersededError(Reason(said, "superseded", {}))

    def _entry(
        self, result: ScanResult, action: str, file: Path, digest: str, note: str = ""
    ) -> dict[str, Any]:
        return {
            "scan": result.name,
            "action": action,
            "reviewer": self.reviewer,
            "note": note,
            "file": file.relative_to(self.folder).as_posix(),
            "file_sha256": digest,
            "original_sha256": found_sha256(result.path(LABELS)),
        }


def _found(folder: Path) -> dict[str, ScanResult]:
    return {result.identifier: result for result in find_results(folder)}


def _counting(result: ScanResult) -> Path:
    return result.path(CORRECTED if result.has(CORRECTED) else LABELS)


def _stamp(result: ScanResult, suffix: str = LABELS) -> tuple[int, ...]:
    """Changes when the file does: by default when the scan is segmented again."""
    try:
        status = result.path(suffix).stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class _Cache:
    """The most recent outcomes of slow work; one piece of work at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return cast("T", self._kept[key])
