"""What of a result stands out: discrepancy beyond what is usual for each structure.

Cortex is always in some doubt and the third ventricle in more, so one limit for all would tint
every brain alike. Each structure has its own, measured on intact scans: the discrepancy D,
averaged over a few millimetres within the labels, that hardly any voxel of them exceeds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.errors import UsageError
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import count_voxels, labelled_box, structure
from ddmseg.quality.doubtful_regions import (
    LEAST_DOUBT,
    DoubtfulRegion,
    error_probability,
    find_doubtful_regions,
)

AVERAGING_MM = 2.0
"""Standard deviation of the Gaussian that D is averaged with."""
PERCENTILE = 99.9
"""Of the averaged D of a structure in one intact scan ..."""
DEVIATIONS = 2.0
"""... and its mean over scans, plus so many standard deviations, is the limit."""
LEAST_ML = 0.1
"""Smaller regions are not listed."""
FEWEST_VOXELS = 20
"""Of a structure in a scan that says what is usual."""


@dataclass(frozen=True, eq=False)
class StandingOut:
    """What lies beyond the usual in one result.

    Attributes:
        beyond: voxels of the regions and of smaller ones (``*grid``).
        regions: by size, largest first.
    """

    beyond: NDArray[np.bool_]
    regions: list[DoubtfulRegion]


def averaged(
    discrepancy: NDArray[np.float32], labels: NDArray[np.integer], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Return D averaged over what is labelled nearby, 0 outside the labels (``*grid``)."""
    found = np.zeros(labels.shape, np.float32)
    if not labels.any():
        return found
    box = labelled_box(labels)
    inside = (labels[box] != 0).astype(np.float32)
    sigma = AVERAGING_MM / np.asarray(spacing_mm)
    total = ndimage.gaussian_filter(discrepancy[box] * inside, sigma, truncate=2.0)
    share = ndimage.gaussian_filter(inside, sigma, truncate=2.0)
    found[box] = np.where(inside > 0, total / np.maximum(share, 1e-3), 0.0)
    return found


def highest(
    discrepancy: NDArray[np.float32], labels: NDArray[np.integer], spacing_mm: Sequence[float]
) -> dict[int, float]:
    """Return the :data:`PERCENTILE` of the averaged D of each structure of a scan, by its id."""
    D = averaged(discrepancy, labels, spacing_mm)
    return {
        index: float(np.percentile(D[labels == index], PERCENTILE))
        for index, count in count_voxels(labels).items()
        if index and count >= FEWEST_VOXELS
    }


def usual_discrepancy(intact: Iterable[Mapping[int, float]]) -> dict[str, float]:
    """Return the limit of each structure, by name, for ``usual_discrepancy`` of a card.

    Args:
        intact: what :func:`highest` says of each of a few scans that nothing is wrong with.
    """
    tops: dict[int, list[float]] = {}
    for scan in intact:
        for index, top in scan.items():
            tops.setdefault(index, []).append(top)
    return {
        structure(index).name: round(float(np.mean(own) + DEVIATIONS * np.std(own)), 3)
        for index, own in sorted(tops.items())
    }


def beyond_usual(
    discrepancy: NDArray[np.float32],
    labels: NDArray[np.integer],
    limits: Mapping[str, float],
    spacing_mm: Sequence[float],
) -> NDArray[np.float32]:
    """Return D on a scale where the limit of the structure is one half (``*grid``, 0 to 1).

    Structures without a limit, and what has no label, are 0.
    """
    found = list(count_voxels(labels))
    scale = np.zeros(1 + max(found, default=0), np.float32)
    for index in found:
        with contextlib.suppress(UsageError):  # an id of nobody's table has no limit
            scale[index] = 0.5 / limits.get(structure(index).name, math.inf)
    D = averaged(discrepancy, labels, spacing_mm)
    return np.asarray(np.minimum(D * scale[labels], 1.0), dtype=np.float32)


def standing_out(
    discrepancy: NDArray[np.float32],
    labels: NDArray[np.integer],
    limits: Mapping[str, float],
    grid: Grid,
    *,
    temperature: float = 1.0,
) -> StandingOut:
    """Return where D is beyond its limits, as voxels and as regions by size.

    Args:
        discrepancy: D at each voxel.
        labels: FreeSurfer ids on the same grid.
        limits: of each structure, by name, as :func:`usual_discrepancy` gives them.
        grid: of both.
        temperature: sigma_D of the weights, for the expected error of the regions.
    """
    doubt = beyond_usual(discrepancy, labels, limits, grid.spacing_mm)
    error = error_probability(discrepancy, temperature=temperature)
    found = find_doubtful_regions(doubt, labels, grid, error=error)
    large = [one for one in found if one.volume_ml >= LEAST_ML]
    return StandingOut(doubt >= LEAST_DOUBT, sorted(large, key=lambda one: -one.volume_ml))
