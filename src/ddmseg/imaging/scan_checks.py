"""What an array must be like to pass as a scan or as a label map."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import Reason, ScanError
from ddmseg.imaging.grid import Grid, three
from ddmseg.imaging.intensity import MAX_SAMPLES, lattice_sample
from ddmseg.imaging.source_file import coded_error
from ddmseg.imaging.volume import AnyArray, FloatArray, LabelMap, Volume, check_affine

SPACING_RANGE_MM = (0.05, 30.0)  # voxel edges that a head scan can have
FARTHEST_MM = 10_000  # from the middle of an image to the world's origin: no scanner is larger
MOST_SHEAR_DEGREES = 20  # between two voxel axes and a right angle; more is a damaged header
FEW_VALUES = 8  # whole-numbered images with no more values than this are label maps
MANY_VALUES = 256  # whole-numbered images with more values than this are scans
FLAT_SHARE = 0.6
"""Share of neighbours with equal values above which an image is a label map.

Measured on real data, outside air, along the axis where it is lowest: 8-bit and low-range scans
0.01 to 0.13 (a scan enlarged twice by repeating voxels 0.55), label maps 0.69 to 0.88.
"""


def checked_scan(
    data: AnyArray,
    affine: AnyArray,
    name: str,
    *,
    header: Any = None,
    accept_nan: bool = False,
    hint: str = "--accept-nan",
    notes: tuple[Reason, ...] = (),
) -> Volume:
    """Return the array as a :class:`Volume` when it can be a scan.

    That is 3-D, of real numbers with contrast, and no label map. ``accept_nan`` puts 0 where values
    are NaN or infinite; ``hint`` is what the message calls that option.
    """
    data = _real_3d(data, name)
    check_place(affine, data.shape, name)
    _check_contrast(data, name)
    with np.errstate(over="ignore"):
        values = np.array(data, dtype=np.float32, order="K")
    values = _without_nan(values, name, accept_nan, hint)
    if float(values.min()) == float(values.max()):
        raise ScanError(
            f"{name}: every voxel is {float(values.flat[0]):g}; give a scan with contrast"
        )
    volume = Volume(values, affine, name, header, notes)
    if _says_label(header) or looks_like_labels(values):
        raise ScanError(f"{name}: this is a label map, not a scan; give the scan it was made from")
    return volume


def checked_labels(
    data: AnyArray,
    affine: AnyArray,
    name: str,
    *,
    header: Any = None,
    within: float = 0.0,
    tell: Callable[[float], None] | None = None,
) -> LabelMap:
    """Return the array as a :class:`LabelMap` when it is 3-D and holds whole numbers.

    A value may lie ``within`` so far from one and is rounded; ``tell`` is told how far, if any was.
    """
    data = _real_3d(data, name)
    check_place(affine, data.shape, name, scan=False)
    if not np.issubdtype(data.dtype, np.integer):
        whole = np.rint(data)
        # NaN compares as false, so it is caught here too
        with np.errstate(invalid="ignore"):
            off = float(np.abs(data - whole).max())
        if not off <= within or np.abs(whole).max() > np.iinfo(np.int32).max:
            said = (
                "not a label map: it holds values that are no whole numbers; "
                "give the labels, not the scan or a probability map"
            )
            raise coded_error(name, said, "no_label_map")
        if off and tell is not None:
            tell(off)
        data = whole.astype(np.int32)
    return LabelMap(np.ascontiguousarray(data), affine, name, header)


def looks_like_labels(values: NDArray[np.floating[Any]]) -> bool:
    """Say whether an image is a label map: whole numbers, few of them, in flat patches.

    Few values alone would refuse 8-bit scans; in those, neighbours differ by noise.
    """
    # a sample settles most scans without looking at every voxel
    sample = lattice_sample(values).numpy()
    distinct = len(np.unique(sample))
    if not np.array_equal(sample, np.rint(sample)) or distinct > MANY_VALUES:
        return False
    flat = all(_flat_share(values, axis) > FLAT_SHARE for axis in range(3))
    if not flat and distinct > FEW_VALUES:
        return False
    low, high = float(values.min()), float(values.max())
    if high - low > 65535 or not np.array_equal(values, np.rint(values)):
        return False
    counts = np.bincount((values - low).astype(np.uint16).ravel(order="K"))
    return bool(np.count_nonzero(counts) <= (MANY_VALUES if flat else FEW_VALUES))


def _flat_share(values: NDArray[np.floating[Any]], axis: int) -> float:
    """Share of neighbours along ``axis`` with equal values, but for pairs of zeros.

    Every third plane across another axis is enough.
    """
    moved = np.moveaxis(values, axis, 0)[:, ::3]
    before, after = moved[:-1], moved[1:]
    equal = before == after
    empty = equal & (before == 0)
    counted = equal.size - np.count_nonzero(empty)
    return float((np.count_nonzero(equal) - np.count_nonzero(empty)) / max(counted, 1))


def _real_3d(data: AnyArray, name: str) -> AnyArray:
    if not (np.issubdtype(data.dtype, np.integer) or np.issubdtype(data.dtype, np.floating)):
        if data.dtype != np.bool_:
            raise ScanError(f"{name}: voxels of type {data.dtype}; they must be real numbers")
        data = data.astype(np.uint8)
    if data.ndim != 3 or min(data.shape) < 2:
        shown = " x ".join(str(n) for n in data.shape)
        raise ScanError(
            f"{name}: an array of shape ({shown}); a scan must have 3 axes of 2 voxels or more"
        )
    return data


def _without_nan(values: FloatArray, name: str, accept_nan: bool, hint: str) -> FloatArray:
    # one sum is NaN or infinite if any value is: cheaper than a mask of every voxel
    if math.isfinite(float(values.sum(dtype=np.float64))):
        return values
    bad = ~np.isfinite(values)
    if bad.any() and not accept_nan:
        raise ScanError(
            f"{name}: {np.count_nonzero(bad)} voxels are NaN or infinite; mend the scan, "
            f"or set them to 0 with {hint}"
        )
    values[bad] = 0.0
    return values


def check_place(affine: AnyArray, shape: tuple[int, ...], name: str, *, scan: bool = True) -> None:
    """Refuse an affine that no scanner gives: unusable, far from the origin or sheared.

    Of a ``scan`` the voxel edges are looked at, too.
    """
    grid = Grid(three(shape[:3]), check_affine(affine, name))
    low, high = SPACING_RANGE_MM
    if scan and not all(low <= s <= high for s in grid.spacing_mm):
        shown = " x ".join(f"{s:g}" for s in grid.spacing_mm)
        raise ScanError(
            f"{name}: voxels of {shown} mm; each edge must be {low:g} to {high:g} mm; "
            "mend the header (are its units millimetres?)"
        )
    away_mm = float(np.abs(grid.world((np.array(shape[:3], float) - 1) / 2)).max())
    if away_mm > FARTHEST_MM:
        away = f"{away_mm:.3g}"
        said = f"the image lies {away} mm from the origin; at most {FARTHEST_MM:g} mm are allowed"
        raise coded_error(name, f"{said}; mend the header", "place_far", mm=away, most=FARTHEST_MM)
    if grid.shear_degrees > MOST_SHEAR_DEGREES:
        degrees, most = round(grid.shear_degrees), MOST_SHEAR_DEGREES
        said = (
            f"the axes of the voxels are {degrees} degrees from right angles; at most {most:g} are "
            "allowed; mend the header"
        )
        raise coded_error(name, said, "place_sheared", degrees=degrees, most=most)


def _check_contrast(data: AnyArray, name: str) -> None:
    """Refuse an image whose sample is of one value, before anything large is made of it."""
    sample = lattice_sample(data)
    low, high = float(sample.min()), float(sample.max())
    if data.size > MAX_SAMPLES and low == high:
        raise ScanError(
            f"{name}: {len(sample)} voxels all over the image are {low:g}; give a scan with "
            "contrast, or cut it to what it shows"
        )


def _says_label(header: Any) -> bool:
    """Whether a NIfTI header carries the intent code of label maps."""
    try:
        return bool(header["intent_code"] == 1002)
    except (TypeError, KeyError, ValueError, IndexError):
        return False
