"""A mask corrected by hand: checked, then saved beside the original, never over it."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddmseg.atomic import atomic_write
from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.nifti_guard import RawNifti, read_raw
from ddmseg.imaging.volume import LabelMap
from ddmseg.quality.reasons import Reason, reason_code
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
    """Return the ids of a correction.

    Args:
        upload: a NIfTI file from outside; nothing parses it before the guard has.
        original: what it corrects.
        allowed: ids that it may hold besides 0.

    Raises:
        ScanError: when it is damaged, on another grid, or holds another id.
    """
    try:
        labels = read_label_map(upload, max_voxels=math.prod(original.shape))
    except ScanError as error:
        raise ScanError(_of_the_correction(error, upload)) from error
    if labels.shape != original.shape:
        given, wanted = _times(labels.shape), _times(original.shape)
        said = (
            f"the correction has {given} voxels; the labels have {wanted}; "
            "draw on the labels of this scan"
        )
        raise ScanError(Reason(said, "correction_shape", {"given": given, "wanted": wanted}))
    ours, theirs = (Grid(one.shape, one.affine) for one in (original, labels))
    if not ours.same_as(theirs, tolerance_mm=SAME_MM):
        said = (
            "the correction lies elsewhere in space (its affine is another one); "
            "draw on the labels of this scan"
        )
        raise ScanError(Reason(said, "correction_place", {}))
    strange = sorted(set(np.unique(labels.data).tolist()) - {0, *allowed})
    if strange:
        known = ", ".join(map(str, sorted(allowed)))
        said = f"the correction holds the label {strange[0]}; allowed are 0 and {known}"
        values = {"label": strange[0], "allowed": known}
        raise ScanError(Reason(said, "correction_label", values))
    return labels.data


def _of_the_correction(error: ScanError, upload: Path) -> str:
    """Return what is wrong with an upload, without the place where it lay for a moment."""
    said, told = str(error).replace(str(upload), UPLOADED), reason_code(error.args[0])
    return (
        said if told is None else Reason(said, told["code"], {**told["values"], "file": UPLOADED})
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def corrected_bytes(result: ScanResult, labels: NDArray[np.integer]) -> bytes:
    """Return the file of a correction: header and type of the original, other voxels.

    Raises:
        ScanError: when the original cannot be read, or an id does not fit its type.
    """
    raw = read_raw(result.path(LABELS), volume=0)
    largest = int(np.iinfo(raw.layout.dtype.str).max)
    if int(labels.max(initial=0)) > largest:
        said = (
            f"the correction holds the label {int(labels.max())}; the type of the original ends "
            f"at {largest}; choose another label"
        )
        values = {"label": int(labels.max()), "largest": largest}
        raise ScanError(Reason(said, "correction_type", values))
    voxels = labels.astype(raw.layout.dtype).tobytes(order="F")
    # no time and no name inside: the same labels give the same bytes
    return gzip.compress(_header_block(raw) + voxels, _LEVEL, mtime=0)


def _header_block(raw: RawNifti) -> bytes:
    """Everything before the voxels; extensions say nothing of a correction and become zeros."""
    length = 348 if raw.layout.version == 1 else 540
    return raw.header[:length] + bytes(raw.layout.offset - length)


@contextlib.contextmanager
def staged(result: ScanResult, data: bytes) -> Iterator[tuple[Path, Path]]:
    """Write a correction where it waits for its line of the log; yield that place and its own.

    Hold the lock of the log.

    Raises:
        OutputError: when it cannot be written.
    """
    target = result.path(CORRECTED)
    place = staging_place(target)
    sweep(place.parent, STAGED)
    try:
        with atomic_write(place) as partial:
            partial.write_bytes(data)
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


def file_sha256(path: Path) -> str:
    """Return the hash of a file, "" where there is none.

    Raises:
        ScanError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        why = error.strerror or str(error)
        said = f"{path}: cannot be read ({why}); check its permissions"
        raise ScanError(Reason(said, "file_locked", {"file": str(path), "why": why})) from error
