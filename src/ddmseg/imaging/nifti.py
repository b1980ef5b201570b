"""NIfTI and MGH scans and label maps in and out, with their place in space kept."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmseg.errors import ScanError
from ddmseg.imaging.mgh import mgh_place
from ddmseg.imaging.nifti_guard import (
    DEFLATE_RATIO,
    MAX_VOXELS,
    SCAN_RATIO,
    choose_volume,
    open_raw,
)
from ddmseg.imaging.nifti_header import Notes, check_values, mended, place, sides_unknown
from ddmseg.imaging.nifti_write import write_label_map, write_map
from ddmseg.imaging.scan_checks import check_place, checked_labels, checked_scan
from ddmseg.imaging.volume import AnyArray, DoubleArray, LabelMap, Volume

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

__all__ = ["read_label_map", "read_volume", "write_label_map", "write_map"]  # what passes through
PathLike = str | os.PathLike[str]


def scan_name(path: PathLike) -> str:
    """Return the file name without folder, ``.gz`` and ``.nii``, ``.mgz`` or ``.mgh``.

    >>> scan_name("/data/sub-01_T1w.nii.gz")
    'sub-01_T1w'
    """
    name = Path(path).name
    for suffix in (".gz", ".nii", ".mgz", ".mgh"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return name


def read_volume(
    path: PathLike,
    *,
    volume: int | None = None,
    accept_nan: bool = False,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Read a 3-D scan, or one volume of a 4-D one.

    All that the header tells is checked before any voxel is read. A gzipped file is read to its end
    and its checksum checked, whatever volume is kept.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file, NIfTI-1 or NIfTI-2, or ``.mgz`` or ``.mgh``.
        volume: which volume of a 4-D file, counted from 0.
        accept_nan: put 0 where voxels are NaN or infinite.

    Raises:
        ScanError: one line with what is wrong with the file and what to do.
    """
    data, affine, header, notes = _read(Path(path), volume, max_voxels, scan=True)
    scan = checked_scan(data, affine, str(path), header=header, accept_nan=accept_nan)
    return Volume(scan.data, scan.affine, scan_name(path), header, notes)


def read_label_map(
    path: PathLike,
    *,
    max_voxels: int = MAX_VOXELS,
    within: float = 0.0,
    tell: Callable[[float], None] | None = None,
) -> LabelMap:
    """Read a label map; real numbers that are all whole are accepted.

    A value may lie ``within`` so far from a whole number and is rounded then; ``tell`` is told how
    far, when any was.

    Raises:
        ScanError: as :func:`read_volume`, or when values are not whole numbers.
    """
    data, affine, header, _ = _read(Path(path), None, max_voxels, scan=False)
    labels = checked_labels(data, affine, str(path), header=header, within=within, tell=tell)
    return LabelMap(labels.data, labels.affine, scan_name(path), header)


def volume_from_nibabel(
    img: SpatialImage, *, name: str = "image", volume: int | None = None, accept_nan: bool = False
) -> Volume:
    """Return a nibabel image of any format as a scan, with the checks of a file."""
    shape = img.shape
    volumes = int(np.prod(shape[3:], dtype=int))
    index = choose_volume(volumes, volume, name)
    # a trailing index picks one volume without reading the others
    place = np.unravel_index(index, shape[3:], order="F") if len(shape) > 3 else ()
    try:
        data = np.asarray(img.dataobj[(..., *place)])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(
            f"{name}: the voxels cannot be read ({error}); the file is damaged"
        ) from error
    affine, header, notes = _placed(img, name)
    hint = "accept_nan=True"
    return checked_scan(
        data, affine, name, header=header, accept_nan=accept_nan, hint=hint, notes=notes
    )


def volume_from_array(
    array: AnyArray, affine: AnyArray, *, name: str = "image", accept_nan: bool = False
) -> Volume:
    """Return an array with axes i j k and its voxel-to-RAS-mm affine as a scan."""
    given, place = np.asarray(array), np.asarray(affine)
    return checked_scan(given, place, name, accept_nan=accept_nan, hint="accept_nan=True")


def _read(
    path: Path, volume: int | None, max_voxels: int, *, scan: bool
) -> tuple[AnyArray, DoubleArray, Any, Notes]:
    """Voxels in the scan's units, affine, nibabel's header object, and what is in doubt."""
    import nibabel as nib

    name = str(path)
    most_ratio = SCAN_RATIO if scan else DEFLATE_RATIO
    raw = open_raw(path, volume=volume, max_voxels=max_voxels, most_ratio=most_ratio)
    block, layout = raw.header, raw.layout
    slope = intercept = None
    notes: Notes = ()
    if layout.version == 0:
        affine, header = mgh_place(block, name)
    else:
        kind: Any = nib.Nifti1Header if layout.version == 1 else nib.Nifti2Header
        header = kind(block[: 348 if layout.version == 1 else 540], check=False)
        check_values(header, name, scan=scan)
        header, mends = mended(header, name)
        affine, doubts = place(header, name)
        notes = (*mends, *doubts)
        slope, intercept = header.get_slope_inter()
    check_place(affine, layout.shape, name, scan=scan)
    data: AnyArray = raw.voxels()
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        data = data * np.float32(slope) + np.float32(intercept or 0.0)
    return data, affine, header, notes


def _placed(img: SpatialImage, name: str) -> tuple[DoubleArray, Any, Notes]:
    """Affine, header and doubts of a nibabel image; an affine of the caller's own is believed."""
    from nibabel.analyze import AnalyzeHeader
    from nibabel.nifti1 import Nifti1Header

    if img.affine is None:
        raise ScanError(f"{name}: the image has no affine; give one, voxel index to RAS mm")
    header: Any = img.header
    if not isinstance(header, AnalyzeHeader):
        return img.affine, header, ()
    own = header.get_best_affine()  # type: ignore[no-untyped-call]
    if not np.allclose(own, img.affine, atol=1e-4):
        return img.affine, header, ()
    if not isinstance(header, Nifti1Header):
        return img.affine, header, (sides_unknown(),)
    header, notes = mended(header, name)
    affine, doubts = place(header, name)
    if np.allclose(affine, img.affine, atol=1e-4):
        affine = img.affine  # the header's numbers are rounded
    return affine, header, (*notes, *doubts)
