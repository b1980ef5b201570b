"""What the files of a result are called, and whether a disk can hold such names."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ddmseg.atomic import PARTIAL, system_reason
from ddmseg.datasets.case import is_volume_name
from ddmseg.errors import OutputError, UsageError

VOLUME = ".nii.gz"
RECEIPT = "_receipt.json"
PROBABILITIES = "_probseg.nii.gz"
SAMPLES = "_desc-samples_dseg.nii.gz"
STEPS = "_desc-steps_dseg.nii.gz"
BRAIN_MASK = "_desc-brain_mask.nii.gz"
BRAIN_IMAGE = "_desc-brain_image.nii.gz"
LABELS_MGZ = "_dseg.mgz"
ASEG_STATS = "_aseg.stats"
DICOM_SEG = "_dseg.dcm"
DICOM_VOLUMES = "_volumes.dcm"
DICOM_REPORT = "_report.dcm"

_FILES = (
    "_dseg.nii.gz",
    LABELS_MGZ,
    "_dseg.tsv",
    "_dseg.json",
    BRAIN_MASK,
    BRAIN_IMAGE,
    "_desc-uncertainty_map.nii.gz",
    "_desc-discrepancy_map.nii.gz",
    "_volumes.tsv",
    "_volumes.json",
    ASEG_STATS,
    "_qc.json",
    "_report.html",
    DICOM_SEG,
    DICOM_VOLUMES,
    DICOM_REPORT,
    SAMPLES,
    STEPS,
    PROBABILITIES,
)
SIDECARS = {
    suffix: suffix.removesuffix(VOLUME) + ".json" for suffix in _FILES if suffix.endswith(VOLUME)
}
"""What stands beside each volume of a BIDS derivative, by the volume."""
SUFFIXES = (*dict.fromkeys((*_FILES, *SIDECARS.values())), RECEIPT)
"""What follows the stem, in the order of writing; the receipt is last."""
WITH_OPTION = ("probabilities", "brain", "mgz")
"""Options of :class:`SegmentOptions` that ask for files beside the usual ones."""
LABEL_FILES = (".nii.gz", ".nii", ".mgz")
OTHER_IMAGES = (".mgh", ".nrrd", ".mha", ".mhd", ".img", ".hdr", ".dcm", ".gz")
"""Endings of image files that labels are not written as."""


def result_paths(folder: Path, stem: str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return the places of the files of a result."""
    return [folder / f"{stem}{suffix}" for suffix in suffixes]


def existing_outputs(folder: Path, stem: str) -> list[Path]:
    """Return the files that an earlier run left for a scan of that stem, links included."""
    return [path for path in result_paths(folder, stem) if os.path.lexists(path)]


def is_label_file(output: Path) -> bool:
    """Say whether an output is called as a file for the labels is (:data:`LABEL_FILES`).

    Raises:
        UsageError: when it is called as another image and is no folder.
    """
    if output.name.lower().endswith(LABEL_FILES):
        return True
    if output.name.lower().endswith(OTHER_IMAGES) and not output.is_dir():
        raise UsageError(
            f"{output}: labels are written as .nii.gz, .nii or .mgz; name such a file, or a folder"
        )
    return False


def check_label_file(path: Path, *, overwrite: bool) -> None:
    """Find out before the work whether labels can be stored in a file; an OutputError if not."""
    check_place(path.parent, "")
    if path.is_dir():
        raise OutputError(f"{path} is a folder called as a file; name another place")
    check_unused([path], overwrite=overwrite, other="file")


def check_unused(paths: Iterable[Path], *, overwrite: bool, other: str = "folder") -> None:
    """Refuse to replace files, links included, unasked, by an OutputError."""
    there = next(filter(os.path.lexists, paths), None)
    if there is not None and not overwrite:
        raise OutputError(
            f"{there} exists already; pass --overwrite to replace it, or name another {other}"
        )


def check_place(folder: Path, stem: str) -> None:
    """Find out before the work whether results of these names can be stored in a folder.

    Raises:
        OutputError: when it is no folder, cannot be written to or the names are too long.
    """
    if is_volume_name(folder) and not folder.is_dir():
        raise OutputError(f"{folder} is called as a file; the results need a folder: name one")
    nearest = nearest_place(folder)
    if not nearest.exists():
        raise OutputError(f"{nearest} is a link that leads nowhere; mend it or name another place")
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file; the results need a folder: name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest}: no permission to write there; choose another folder")
    longest = max(SUFFIXES, key=len)
    try:
        for place in (nearest / f"{stem}{longest}", folder / f".{stem}" / f"{PARTIAL}{stem}"):
            with contextlib.suppress(FileNotFoundError):
                place.lstat()
    except OSError as error:
        raise OutputError(
            f"{folder}: results named {stem}{longest} cannot be stored there "
            f"({system_reason(error)}); rename the scan or choose another folder"
        ) from error
    in_the_way = [path for path in existing_outputs(folder, stem) if path.is_dir()]
    if in_the_way:
        raise OutputError(f"{in_the_way[0]} is a folder; remove it or choose another place")


def nearest_place(path: Path) -> Path:
    """Return a path itself, or the nearest one above it that is there, if only as a link."""
    return next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))


def check_space(folder: Path, voxels: int, *, probabilities: bool) -> None:
    """Find out before the work whether the disk has room for one scan; an OutputError if not."""
    # the demo scan's results: 14.5 MB for 7.1 million voxels
    needed = 500_000 + (4.0 if probabilities else 2.0) * voxels
    free = shutil.disk_usage(nearest_place(folder)).free
    if free < needed:
        raise OutputError(
            f"{folder}: {free / 1e6:.1f} MB free, and the results of this scan take about "
            f"{needed / 1e6:.1f} MB; free some space or choose another folder"
        )
