"""A mask corrected by hand: checked, measured, then saved beside the original, never over it."""

from __future__ import annotations

import contextlib
import gzip
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.atomic import write_bytes
from ddmseg.errors import OutputError, Reason, ScanError, reason_code
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.nifti_guard import open_raw
from ddmseg.imaging.volume import LabelMap
from ddmseg.maths.metrics import evaluate_labels
from ddmseg.review.files import STAGED, staging_place, sweep
from ddmseg.review.results import CORRECTED, LABELS, ScanResult

SAME_MM = 0.01
"""How far the corners of the two grids may lie apart; viewers keep affines in 32 bits."""
SPARE_BYTES = 1 << 16
UPLOADED = "the correction"
"""What a file from outside is called in messages."""
_LEVEL = 4


def upload_limit(shape: tuple[int, int, int]) -> int:
    """Return the most bytes that a correction of labels of that shape can have.

    Eight bytes a voxel is the widest type there is; a header, and what gzip adds to noise.
    """
    return math.prod(shape) * 8 + SPARE_BYTES


def read_correction(
    upload: Path, original: LabelMap, allowed: Collection[int]
) -> NDArray[np.integer]:
    """Return the ids of a correction; nothing parses the file from outside before the guard has.

    ScanError when it is damaged, on another grid, or holds an id but 0 and those allowed.
    """
    try:
        labels = read_label_map(upload, max_voxels=math.prod(original.shape))
    except ScanError as error:
        said = str(error).replace(str(upload), UPLOADED)  # without the place where it lay
        if coded := reason_code(error.args[0]):
            said = Reason(said, coded["code"], {**coded["values"], "file": UPLOADED})
        raise ScanError(said) from error
    if labels.shape != original.shape:
        given, wanted = (" x ".join(map(str, one.shape)) for one in (labels, original))
        raise _unfit(
            "has {given} voxels; the labels have {wanted}; draw on the labels of this scan",
            "correction_shape",
            given=given,
            wanted=wanted,
        )
    ours, theirs = (Grid(one.shape, one.affine) for one in (original, labels))
    if not ours.same_as(theirs, tolerance_mm=SAME_MM):
        raise _unfit(
            "lies elsewhere in space (its affine is another one); draw on the labels of this scan",
            "correction_place",
        )
    if strange := sorted(set(np.unique(labels.data).tolist()) - {0, *allowed}):
        known = ", ".join(map(str, sorted(allowed)))
        raise _unfit(
            "holds the label {label}; allowed are 0 and {allowed}",
            "correction_label",
            label=strange[0],
            allowed=known,
        )
    return labels.data


def _unfit(sentence: str, code: str, **values: Any) -> ScanError:
    return ScanError(Reason(f"{UPLOADED} {sentence}".format(**values), code, values))


def corrected_bytes(result: ScanResult, labels: NDArray[np.integer]) -> bytes:
    """Return the file of a correction: header and type of the original, other voxels.

    ScanError when the original cannot be read, or an id does not fit its type.
    """
    raw = open_raw(result.path(LABELS), volume=0)
    raw.voxels()  # read to its end, so that damage is found
    layout, label = raw.layout, int(labels.max(initial=0))
    largest = int(np.iinfo(layout.dtype.str).max)
    if label > largest:
        raise _unfit(
            "holds the label {label}; the type of the original ends at {largest}; "
            "choose another label",
            "correction_type",
            label=label,
            largest=largest,
        )
    length = 348 if layout.version == 1 else 540
    # extensions say nothing of a correction and become zeros
    header = raw.header[:length] + bytes(layout.offset - length)
    # no time and no name inside: the same labels give the same bytes
    return gzip.compress(header + labels.astype(layout.dtype).tobytes(order="F"), _LEVEL, mtime=0)


@contextlib.contextmanager
def staged(result: ScanResult, data: bytes) -> Iterator[tuple[Path, Path]]:
    """Write a correction where it waits for its line of the log; yield that place and its own.

    Hold the lock of the log. OutputError when it cannot be written.
    """
    target = result.path(CORRECTED)
    place = staging_place(target)
    sweep(place.parent, STAGED)
    try:
        write_bytes(place, data)
    except OutputError as error:
        # its advice, another folder, is none for a correction
        why = str(error).removeprefix(f"cannot write {place}: ").partition(";")[0]
        said = (
            f"cannot write {target}: {why}; the correction is not saved: free some space or mend "
            "the permissions, and save again"
        )
        values = {"file": str(target), "why": why}
        raise OutputError(Reason(said, "not_saved", values)) from error
    try:
        yield place, target
    finally:
        # gone already when the line is there
        with contextlib.suppress(OSError):
            place.unlink()


@dataclass(frozen=True)
class StructureEdit:
    """One changed structure: the corrected mask against the original one.

    The two distances are None where one of the masks is empty: there is no surface to measure to.
    """

    index: int
    name: str
    added_voxels: int
    removed_voxels: int
    before_ml: float
    after_ml: float
    dice: float
    mean_surface_distance_mm: float | None
    hd95_mm: float | None


@dataclass(frozen=True)
class EditMetrics:
    """All that a correction changed; ``structures`` has the largest change first."""

    voxels_changed: int
    ml_changed: float
    structures: list[StructureEdit]


def edit_metrics(
    original: LabelMap, corrected: NDArray[np.integer], *, name_of: Callable[[int], str]
) -> EditMetrics:
    """Measure a correction: ids after it, on the same grid as the labels before it."""
    changed = original.data != corrected
    before, after = original.data[changed], corrected[changed]
    ids = sorted({*np.unique(before).tolist(), *np.unique(after).tolist()} - {0})
    scores = evaluate_labels(corrected, original.data, ids, spacing_mm=original.spacing_mm)
    structures = [
        StructureEdit(
            index=score.label,
            name=name_of(score.label),
            added_voxels=int(np.count_nonzero(after == score.label)),
            removed_voxels=int(np.count_nonzero(before == score.label)),
            before_ml=round(score.truth_ml, 4),
            after_ml=round(score.prediction_ml, 4),
            dice=round(score.dice, 6),
            mean_surface_distance_mm=_finite(score.mean_surface_distance_mm),
            hd95_mm=_finite(score.hd95_mm),
        )
        for score in scores
    ]
    structures.sort(key=lambda one: (-(one.added_voxels + one.removed_voxels), one.index))
    voxels = int(np.count_nonzero(changed))
    return EditMetrics(voxels, round(voxels * original.voxel_ml, 4), structures)


def shown_edit(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metrics that an entry of the log holds, None where they are not whole."""
    kept: Any = entry.get("edit")
    try:
        structures = [StructureEdit(**one) for one in kept["structures"]]
        found = EditMetrics(int(kept["voxels_changed"]), float(kept["ml_changed"]), structures)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    number = (int, float)
    kinds = {"int": (int,), "float": number, "str": (str,), "float | None": (*number, type(None))}
    cells = [(getattr(one, cell.name), cell) for one in structures for cell in fields(one)]
    return asdict(found) if all(type(x) in kinds[str(cell.type)] for x, cell in cells) else None


def _finite(value_mm: float) -> float | None:
    return round(value_mm, 3) if math.isfinite(value_mm) else None
