"""Finding the scan that a result was made from: by name, and believed by its hash only.

A receipt keeps no path, for paths tell who was scanned; it keeps the hash of the
voxels and of the affine. A scan of the right name with another content is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
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
    size is right, in the folders and all below them.
    """
    from ddmseg.inference.scan_encoding import content_hash

    stated = receipt.get("input")
    stated = stated if isinstance(stated, dict) else {}
    wanted, shape = stated.get("content_sha256"), stated.get("shape")
    if not isinstance(wanted, str):
        return None
    files = _of_those_names({stem, str(stated.get("name", stem))}, folders)
    found = chain.from_iterable(map(_volumes_of, files))
    if isinstance(shape, list) and all(type(length) is int for length in shape):
        found = chain(found, _series_of(sorted(shape), folders))
    return next((scan for scan in found if content_hash(scan) == wanted), None)


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


def _series_of(shape: list[int], folders: Sequence[Path]) -> Iterator[Volume]:
    """Each DICOM series of a size; what is damaged is none."""
    try:
        from ddmseg.imaging.dicom.series import list_series, read_series
    except ImportError:
        return
    for folder in folders:
        with suppress(DdmsegError, OSError):
            for series in list_series(folder):
                if sorted(series.shape) == shape:
                    with suppress(DdmsegError):
                        yield read_series(series)
