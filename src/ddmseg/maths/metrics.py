"""How well a label map agrees with the truth.

For masks A (prediction) and B (truth) of one structure, in 2-D or 3-D:

    Dice = 2 |A and B| / (|A| + |B|)
    volume similarity = 1 - | |A| - |B| | / (|A| + |B|)

Surfaces are the voxels of a mask with a face neighbour outside it (voxels at the edge of
the image count as surface), and distances run between voxel centres in millimetres, the
definitions of MONAI.  Source: Taha and Hanbury 2015, BMC Medical Imaging 15:29; Nikolov et
al. 2021, JMIR 23(7):e26151 (surface Dice).

Empty masks, the same for every caller:

=================  ======================  ==========================
metric             one mask empty          both empty
=================  ======================  ==========================
overlaps, [0, 1]   0: all of it is wrong   NaN: nothing was to be found
distances in mm    infinity                NaN
=================  ======================  ==========================

NaN, not 1, because a structure that neither has says nothing about the quality and would
lift the mean of a scan by its absence; leave it out of means (``numpy.nanmean``).  An
infinite distance must be counted and told apart, not averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree
from torch import Tensor

from ddmseg.errors import ScanError, SettingsError

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
MaskLike = NDArray[Any] | Tensor
"""A mask or label map: a NumPy array or a tensor on any device."""

Spacing = Sequence[float | int]
"""Distance between voxel centres along each axis, in mm."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance in mm of each surface voxel to the nearest one of the other mask."""

    to_truth: Points
    to_prediction: Points

    @property
    def hausdorff_mm(self) -> float:
        """Largest distance, at least 0 mm."""
        return self.percentile_mm(100.0)

    @property
    def hd95_mm(self) -> float:
        """95th percentile of each direction; the larger of the two."""
        return self.percentile_mm(95.0)

    @property
    def both(self) -> Points:
        """Those of both surfaces together."""
        return np.concatenate([self.to_truth, self.to_prediction])

    @property
    def mean_mm(self) -> float:
        """Mean over the voxels of both surfaces together."""
        return float(self.both.mean()) if self.both.size else math.nan

    def percentile_mm(self, percent: float) -> float:
        """Percentile of each direction; the larger of the two."""
        directions = [d for d in (self.to_truth, self.to_prediction) if d.size]
        if len(directions) == 1:
            return math.inf
        return max((float(np.percentile(d, percent)) for d in directions), default=math.nan)

    def surface_dice(self, tolerance_mm: float | int) -> float:
        """Share of both surfaces within the tolerance of the other, in [0, 1]."""
        # Distances are roots of sums; a tolerance that equals one must not lose to rounding.
        within = self.both <= tolerance_mm + 1e-9
        return float(within.mean()) if within.size else math.nan


@dataclass(frozen=True)
class StructureScore:
    """Every metric of one structure; distances in mm, volumes in ml."""

    label: int
    dice: float
    surface_dice: float
    volume_similarity: float
    hausdorff_mm: float
    hd95_mm: float
    mean_surface_distance_mm: float
    prediction_ml: float
    truth_ml: float


def dice(prediction: MaskLike, truth: MaskLike) -> float:
    """Return the overlap of two masks, in [0, 1]. Source: Dice 1945."""
    A, B = _masks(prediction, truth)
    return _ratio(2 * _count(A & B), _count(A) + _count(B))


def volume_similarity(prediction: MaskLike, truth: MaskLike) -> float:
    """Return how alike the volumes are, in [0, 1], wherever they lie."""
    A, B = _masks(prediction, truth)
    a, b = _count(A), _count(B)
    return _ratio(2 * min(a, b), a + b)  # = 1 - |a - b| / (a + b)


def surface_distances(
    prediction: MaskLike, truth: MaskLike, *, spacing_mm: Spacing
) -> SurfaceDistances:
    """Measure both surfaces against each other; errors as of :func:`evaluate_labels`."""
    A, B = _masks(prediction, truth)
    spacing = _checked_spacing(spacing_mm, A.ndim)
    box = find_objects((A | B).astype(np.uint8), max_label=1)[0]
    window = box or (slice(0, 0),) * A.ndim
    points = [np.argwhere(_surface(mask[window])) * spacing for mask in (A, B)]
    return SurfaceDistances(_nearest(points[0], points[1]), _nearest(points[1], points[0]))


def evaluate_labels(
    prediction: MaskLike,
    truth: MaskLike,
    labels: Sequence[int],
    *,
    spacing_mm: Spacing,
    tolerance_mm: float | int = 1.0,
) -> list[StructureScore]:
    """Score each structure of two label maps.

    Args:
        labels: ids to score, one row each, in this order; above 0. None gives no row.
        spacing_mm: voxel spacing along each axis.
        tolerance_mm: how far a surface may be off for surface Dice, at least 0.

    Raises:
        ScanError: when the shapes differ.
        SettingsError: when the spacing, the tolerance or a label is out of its range.
    """
    A, B = _arrays(prediction, truth)
    spacing = _checked_spacing(spacing_mm, A.ndim)
    if not tolerance_mm >= 0:
        raise SettingsError(f"tolerance_mm: got {tolerance_mm:g}; it must not be negative")
    if any(label < 1 for label in labels):
        raise SettingsError(f"labels: got {min(labels)}; ids must be above 0 (0 is background)")
    rows = zip(labels, _boxes(A, B, labels), strict=True)
    return [_score(k, A[box] == k, B[box] == k, spacing, tolerance_mm) for k, box in rows]


def _score(
    label: int, A: Mask, B: Mask, spacing: Points, tolerance_mm: float | int
) -> StructureScore:
    distances = surface_distances(A, B, spacing_mm=spacing.tolist())
    voxel_ml = float(np.prod(spacing)) / 1000.0
    return StructureScore(
        label=label,
        dice=dice(A, B),
        surface_dice=distances.surface_dice(tolerance_mm),
        volume_similarity=volume_similarity(A, B),
        hausdorff_mm=distances.hausdorff_mm,
        hd95_mm=distances.hd95_mm,
        mean_surface_distance_mm=distances.mean_mm,
        prediction_ml=_count(A) * voxel_ml,
        truth_ml=_count(B) * voxel_ml,
    )


def _boxes(A: NDArray[Any], B: NDArray[Any], wanted: Sequence[int]) -> list[tuple[slice, ...]]:
    """Find the smallest box that holds each wanted label in either map.

    Labels become 1, 2, ... first, since ids run to five digits and ``find_objects``
    keeps a slot for each number up to the largest.
    """
    if not wanted:
        return []
    codes, places = np.unique(np.asarray(wanted, dtype=np.int64), return_inverse=True)
    found: list[list[Any]] = []
    for labels in (A, B):
        rank = np.searchsorted(codes, labels).clip(max=len(codes) - 1)
        places_of = np.where(codes[rank] == labels, rank + 1, 0)
        found.append(find_objects(places_of, max_label=len(codes)))
    boxes = [_hull(a or b or (slice(0, 0),) * A.ndim, b or a) for a, b in zip(*found, strict=True)]
    return [boxes[place] for place in places.tolist()]


def _hull(a: tuple[slice, ...], b: tuple[slice, ...] | None) -> tuple[slice, ...]:
    pairs = zip(a, b or a, strict=True)
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in pairs)


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~binary_erosion(mask)) if mask.size else mask


def _nearest(points: Points, others: Points) -> Points:
    """Distance of each point to the nearest of the others; infinite when there is none.

    A tree of the surface voxels is faster than a distance transform of the box and does
    not grow with the empty space between two far apart pieces.
    """
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(others).query(points)[0])


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _arrays(prediction: MaskLike, truth: MaskLike) -> tuple[NDArray[Any], NDArray[Any]]:
    both = (prediction, truth)
    A, B = (m.detach().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m) for m in both)
    if A.shape != B.shape:
        raise ScanError(
            f"prediction of shape {A.shape} and truth of shape {B.shape}; "
            "bring both to one grid before they are compared"
        )
    return A, B


def _masks(prediction: MaskLike, truth: MaskLike) -> tuple[Mask, Mask]:
    A, B = _arrays(prediction, truth)
    return A.astype(bool), B.astype(bool)


def _checked_spacing(spacing_mm: Spacing, dims: int) -> Points:
    spacing, told = np.asarray(spacing_mm, dtype=np.float64), f"spacing_mm: got {tuple(spacing_mm)}"
    if spacing.shape != (dims,):
        raise SettingsError(f"{told}; give {dims} numbers, one for each axis")
    if not ((spacing > 0) & np.isfinite(spacing)).all():
        raise SettingsError(f"{told}; each must be above 0")
    return spacing
