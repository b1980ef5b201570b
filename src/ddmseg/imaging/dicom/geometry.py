"""From the positions of slices to a grid: their order, and voxel index to RAS mm.

Slices are sorted by where they lie along their normal, never by name or number, and the distance
between them is that of their positions: SliceThickness leaves out gaps, and SpacingBetweenSlices is
often wrong.

Source: DICOM PS3.3, C.7.6.2.1.1 (image position and orientation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.header import Frame
from ddmseg.imaging.volume import DoubleArray

SAME_PLACE_MM = 0.01  # slices nearer to each other than this lie at one place
UNEVEN_SHARE = 0.1
"""How far a slice may lie from its place on an even grid, as a share of the distance of slices.
Rounded positions stay far below; a missing slice gives at least 0.5."""
TILT_TANGENT = 0.005  # sideways drift of a stack for each millimetre along its normal: 0.3 degrees
DIRECTION_TOLERANCE = 1e-3
"""Largest difference of two direction vectors, or of their lengths from 1."""
SPACING_TOLERANCE = 1e-3  # largest relative difference of pixel spacings within a series
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices along the third voxel axis, and the affine to RAS mm; i runs along a row, j down."""

    frames: tuple[Frame, ...]
    affine: DoubleArray


def stack_frames(frames: Sequence[Frame], name: str) -> Stack:
    """Return slices as a grid: they must have places, be parallel, apart, even and upright."""
    positions, row, column, spacing = _common_plane(frames, name)
    normal = np.cross(row, column)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    _check_distinct(frames, along[order], order, name)
    _check_even(along[order], name)
    step = (positions[order[-1]] - positions[order[0]]) / (len(frames) - 1)
    forward = float(step @ normal)
    tangent = float(np.linalg.norm(step - forward * normal)) / forward
    if tangent > TILT_TANGENT:
        degrees = float(np.degrees(np.arctan(tangent)))
        raise ScanError(
            f"{name}: slices sheared by {degrees:.1f} degrees (a tilted gantry); that cannot be "
            "undone here; convert the series with dcm2niix, which resamples it"
        )
    affine = np.eye(4)
    columns = (row * spacing[1], column * spacing[0], step, positions[order[0]])
    affine[:3] = np.stack(columns, axis=1)
    return Stack(tuple(frames[i] for i in order), RAS_FROM_LPS @ affine)


def _common_plane(
    frames: Sequence[Frame], name: str
) -> tuple[DoubleArray, DoubleArray, DoubleArray, DoubleArray]:
    """Positions, unit vectors along rows and down columns, and spacings, if all agree."""
    known = [
        (frame.position, frame.orientation, frame.pixel_spacing_mm)
        for frame in frames
        if frame.position and frame.orientation and frame.pixel_spacing_mm
    ]
    if len(known) < len(frames):
        raise ScanError(
            f"{name}: {len(frames) - len(known)} of {len(frames)} images say not where they lie "
            "(position, orientation or pixel spacing is absent); give the scanner's own series"
        )
    if len(frames) < 2:
        raise ScanError(f"{name}: one slice; a scan must have 2 or more; give all its files")
    positions, orientations, spacings = (
        np.array(values, dtype=np.float64) for values in zip(*known, strict=True)
    )
    row, column = _directions(orientations, name)
    if (spacings <= 0).any() or (np.abs(spacings / spacings[0] - 1.0).max() > SPACING_TOLERANCE):
        raise ScanError(
            f"{name}: pixel spacings from {spacings.min():g} to {spacings.max():g} mm; all slices "
            "must have the same, above 0; give one series of one acquisition"
        )
    return positions, row, column, spacings[0]


def _directions(orientations: DoubleArray, name: str) -> tuple[DoubleArray, DoubleArray]:
    if np.abs(orientations - orientations[0]).max() > DIRECTION_TOLERANCE:
        kinds = len(np.unique(orientations.round(2), axis=0))
        raise ScanError(
            f"{name}: slices in {max(kinds, 2)} orientations; all must be parallel; "
            "export each stack as a series of its own"
        )
    row, column = orientations[0, :3], orientations[0, 3:]
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1.0).max() > DIRECTION_TOLERANCE or abs(row @ column) > DIRECTION_TOLERANCE:
        raise ScanError(
            f"{name}: the image orientation is no pair of perpendicular unit vectors; "
            "the header is damaged; export the series again"
        )
    return row / lengths[0], column / lengths[1]


def _check_distinct(
    frames: Sequence[Frame], along: DoubleArray, order: NDArray[np.intp], name: str
) -> None:
    shared = np.flatnonzero(np.diff(along) < SAME_PLACE_MM)
    if not len(shared):
        return
    if len(shared) == len(frames) - 1:
        raise ScanError(
            f"{name}: {len(frames)} images of one and the same place; "
            "they make no volume; choose another series"
        )
    here, there = frames[order[shared[0]]], frames[order[shared[0] + 1]]
    others = dict(there.contrast)
    differing = [kind for kind, value in here.contrast if others.get(kind) != value]
    told = f", told apart by {' and '.join(differing)}" if differing else ""
    raise ScanError(
        f"{name}: {len(shared)} images lie where another lies{told}; a scan has one image a "
        "place; export one volume a series, or remove the copies"
    )


def _check_even(along: DoubleArray, name: str) -> None:
    gaps = np.diff(along)
    spacing = (along[-1] - along[0]) / len(gaps)
    places = along[0] + spacing * np.arange(len(along))
    if np.abs(along - places).max() <= UNEVEN_SHARE * spacing:
        return
    usual = float(np.median(gaps))
    absent = int(np.rint(gaps / usual - 1.0).clip(min=0).sum())
    lost = f"about {absent} missing" if absent else "uneven"
    raise ScanError(
        f"{name}: slices {lost}: they lie {gaps.min():.3g} to {gaps.max():.3g} mm apart, and each "
        f"may stray at most {UNEVEN_SHARE:.0%} of their distance; export the whole series again"
    )
