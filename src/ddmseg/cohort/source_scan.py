"""Finding the scan that a result was made from: by name, and believed by its hash only.

A receipt keeps no path, for paths tell who was scanned; it keeps the hash of the
voxels and of the affine. A scan of the right name with another content is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ddmseg.datasets.case import is_volume_name, volume_stem
from ddmseg.errors import DdmsegError, ScanError
from ddmseg.imaging.volume import Volume

MAX_FILES = 100_000
"""Files of a folder that are looked at."""
MAX_VOLUMES = 64
"""Volumes of a 4-D file that are tried."""


def find_source_scan(stem: str, receipt: dict[str, Any], folders: Sequence[Path]) -> Volume | None:
    """Return the scan whose content has the hash of the receipt, or None.

    NIfTI files of the scan's name are tried first, then the DICOM series whose
    size is right.

    Args:
        folders: where to look, the folders below them included.
    """
    stated = receipt.get("input")
    stated = stated if isinstance(stated, dict) else {}
    wanted = stated.get("content_sha256")
    if not isinstance(wanted, str):
        return None
    names = {stem, str(stated.get("name", stem))}
    for path in _of_those_names(names, folders):
        for scan in _volumes_of(path):
            if _hash(scan) == wanted:
                return scan
    shape = stated.get("shape")
    if not isinstance(shape, list) or not all(type(length) is int for length in shape):
        return None
    return _find_series(wanted, sorted(shape), folders)


def _hash(scan: Volume) -> str:
    from ddmseg.inference.scan_encoding import content_hash

    return content_hash(scan)


def _of_those_names(names: set[str], folders: Sequence[Path]) -> Iterator[Path]:
    left = MAX_FILES
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if not is_volume_name(path):
                continue
            left -= 1
            if left < 0:
                return
            if volume_stem(path) in names:
                yield path


def _volumes_of(path: Path) -> Iterator[Volume]:
    """Each 3-D volume of a file, as segment would have read it; none from a damaged file."""
    from ddmseg.imaging.nifti import read_volume

    for place in range(MAX_VOLUMES):
        try:
            yield read_volume(path, volume=place, accept_nan=True)
        except ScanError:
            return


def _find_series(wanted: str, shape: list[Any], folders: Sequence[Path]) -> Volume | None:
    try:
        from ddmseg.imaging.dicom.series import list_series, read_series
    except ImportError:
        return None
    for folder in folders:
        try:
            listed = list_series(folder)
        except (DdmsegError, OSError):
            continue
        for series in listed:
            if sorted(series.shape) != shape:
                continue
            try:
                scan = read_series(series)
            except DdmsegError:
                continue
            if _hash(scan) == wanted:
                return scan
    return None
