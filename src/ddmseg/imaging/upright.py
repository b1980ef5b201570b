"""Oblique scans turned to the axes of the world, where heads lie as in training.

A network that saw heads upright draws a tilted one worse: at 45 degrees mean Dice fell from
0.75 to 0.57 (docs/decisions.md). Small angles are left, since turning costs an interpolation.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.grid import Grid, TurnedMap, three
from ddmseg.imaging.intensity import intensity_range
from ddmseg.imaging.resample import resample
from ddmseg.imaging.transforms import Turn

OBLIQUE_DEGREES = 12.0
"""Angle to the axes of the world up to which a scan is left as it lies."""
SHEAR_DEGREES = 1.0
"""Distance of voxel axes from right angles up to which they are taken for such."""
MOST_VOXELS = 1 << 26
"""Of a turned scan: voxels become larger where there would be more."""


def upright(
    data: NDArray[np.float32], grid: Grid, *, spacing_mm: float
) -> tuple[NDArray[np.float32], Grid, list[Turn]]:
    """Turn a scan that lies askew, and straighten one with sheared voxels.

    Args:
        data: the scan, ``i j k``; it is left as it is.
        grid: of it.
        spacing_mm: voxel edge of the model grid, which the voxels need not be much finer than.

    Returns:
        Scan and grid, themselves where nothing was to do, and the step that was done.

    Raises:
        ScanError: when the scan has no contrast.
    """
    oblique, sheared = grid.oblique_degrees, grid.shear_degrees
    if oblique <= OBLIQUE_DEGREES and sheared <= SHEAR_DEGREES:
        return data, grid, []
    target = _around(grid, max(min(grid.spacing_mm), spacing_mm / 2))
    # beyond the scan there is what air is like in it
    air, _ = intensity_range(data)
    data = resample(data, TurnedMap.between(target, grid), target.shape, fill=air)
    spacing = target.spacing_mm[0]
    return data, target, [Turn(round(oblique, 2), round(sheared, 2), spacing, target.shape)]


def _around(grid: Grid, spacing_mm: float) -> Grid:
    """Return the grid along R, A and S that holds all of another, centred on it."""
    faces = [(-0.5, n - 0.5) for n in grid.shape]
    corners = grid.world(np.array(list(itertools.product(*faces))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    edge = max(spacing_mm, (math.prod((high - low).tolist()) / MOST_VOXELS) ** (1 / 3))
    shape = [max(2, math.ceil(length / edge - 1e-3)) for length in high - low]
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = (low + high) / 2 - edge * (np.array(shape) - 1) / 2
    return Grid(three(shape), affine)
