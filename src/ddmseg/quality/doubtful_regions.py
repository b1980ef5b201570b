"""The regions of a result that are most in doubt, largest expected error first.

The doubt of a voxel is a number in [0, 1]: the probability 1 - exp(-D / sigma_D^2)
that its label is wrong, or its entropy on a scale where a draw between two labels is
one half, which is then the probability of an error as well. A region is a connected piece of voxels
above one half, cut at the valleys between its peaks: along the cortex everything
hangs together, and nobody can jump to all of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import labelled_box

LEAST_DOUBT = 0.5
"""Doubt from which a voxel belongs to a region."""
SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian that finds the peaks."""
PEAK_DISTANCE_MM = 12.0
"""How far apart two peaks of one piece are at least."""
BESIDE_MM = 15.0
"""How far from something that was missed its neighbour is looked for."""
MOST = 50
"""Regions that are listed."""


@dataclass(frozen=True)
class DoubtfulRegion:
    """A region in doubt.

    Attributes:
        index: id that most of the expected error lies in; 0 where something may be missed.
        beside: for ``index`` 0 the nearest label, else 0.
        position_mm: its peak, in RAS mm.
        expected_error_ml: the sum of its voxels' doubt times the volume of a voxel.
    """

    index: int
    beside: int
    position_mm: tuple[float, float, float]
    volume_ml: float
    expected_error_ml: float

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, volumes rounded to what they are worth."""
        volumes = {"volume_ml": self.volume_ml, "expected_error_ml": self.expected_error_ml}
        return asdict(self) | {name: round(ml, 3) for name, ml in volumes.items()}


def error_probability(
    discrepancy: NDArray[np.float32], *, temperature: float
) -> NDArray[np.float32]:
    """Return 1 - exp(-D / sigma_D^2), the probability that each voxel is wrong."""
    return np.asarray(-np.expm1(-discrepancy / np.float32(temperature**2)), dtype=np.float32)


def entropy_doubt(uncertainty: NDArray[np.float32], *, classes: int) -> NDArray[np.float32]:
    """Return the entropy on a scale where two equally likely labels give one half.

    The uncertainty is entropy divided by log(classes), in [0, 1], background included.
    """
    bits = uncertainty * np.float32(np.log2(classes))
    return np.asarray(np.clip(bits / 2, 0.0, 1.0), dtype=np.float32)


def find_doubtful_regions(
    doubt: NDArray[np.float32],
    labels: NDArray[np.integer],
    grid: Grid,
    *,
    error: NDArray[np.float32] | None = None,
    most: int = MOST,
) -> list[DoubtfulRegion]:
    """Return up to ``most`` regions of high doubt, the largest expected error first.

    Args:
        doubt: of each voxel, in [0, 1]; what is not finite counts as 0.
        error: probability that each voxel is wrong, where the doubt is something else.
    """
    doubt = np.nan_to_num(doubt, nan=0.0, posinf=0.0, neginf=0.0)
    high = doubt >= LEAST_DOUBT
    if not high.any():
        return []
    # with room for the smoothing
    box = tuple(
        slice(max(0, side.start - 2), min(length, side.stop + 2))
        for side, length in zip(labelled_box(high.view(np.uint8)), high.shape, strict=True)
    )
    spacing = np.array(grid.spacing_mm)
    corner = np.array([side.start for side in box])
    doubt, inside, high = doubt[box], labels[box], high[box]
    voxels = np.argwhere(high)
    peaks, region = _regions(doubt, high, voxels, spacing)
    weight = (doubt if error is None else error[box])[high].astype(np.float64)
    wrong = np.bincount(region, weight, len(peaks))
    size = np.bincount(region, minlength=len(peaks))
    chosen = np.argsort(-wrong, kind="stable")[:most]
    found = []
    for one in chosen.tolist():
        own = region == one
        ids, place = np.unique(inside[high][own], return_inverse=True)
        index = int(ids[np.argmax(np.bincount(place, weight[own]))])
        peak = peaks[one] + corner
        x, y, z = grid.world(peak.astype(np.float64)).tolist()
        found.append(
            DoubtfulRegion(
                index=index,
                beside=_label_beside(labels, peak, spacing) if index == 0 else 0,
                position_mm=(round(x, 1), round(y, 1), round(z, 1)),
                volume_ml=float(size[one]) * grid.voxel_ml,
                expected_error_ml=float(wrong[one]) * grid.voxel_ml,
            )
        )
    return found


def _regions(
    doubt: NDArray[np.float32],
    high: NDArray[np.bool_],
    voxels: NDArray[np.int64],
    spacing_mm: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxel of each region's peak, and the region of each voxel of ``voxels``."""
    pieces, _ = ndimage.label(high, structure=np.ones((3, 3, 3)))
    smooth = ndimage.gaussian_filter(doubt, SMOOTHING_MM / spacing_mm, mode="constant")
    smooth[~high] = 0.0
    window = np.maximum(1, 2 * np.rint(PEAK_DISTANCE_MM / 2 / spacing_mm).astype(int) + 1)
    is_peak = high & (smooth == ndimage.maximum_filter(smooth, size=tuple(window.tolist())))
    piece_of = pieces[high]
    peaks = _middles(is_peak)
    # every piece has a peak, be it lower than that of a neighbour within the window
    lonely = np.setdiff1d(piece_of, pieces[is_peak])
    if lonely.size:  # scipy's maximum_position would sort the whole grid
        order = np.lexsort((-smooth[high], piece_of))
        peaks = np.concatenate([peaks, voxels[order[np.searchsorted(piece_of[order], lonely)]]])
    # Each voxel goes to the nearest peak of its own piece. The piece is a fourth axis, along which
    # the next one is farther than any scan is long: so one search does for all of them.
    apart = 1e6
    piece_of_peak = pieces[tuple(peaks.T)]
    tree = cKDTree(np.column_stack([peaks * spacing_mm, apart * piece_of_peak]))
    _, nearest = tree.query(np.column_stack([voxels * spacing_mm, apart * piece_of]))
    return peaks, np.asarray(nearest, dtype=np.int64)


def _middles(is_peak: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One voxel for each connected plateau of peaks: the one nearest to its centre."""
    plateaus, _ = ndimage.label(is_peak, structure=np.ones((3, 3, 3)))
    voxels = np.argwhere(is_peak)
    of = plateaus[is_peak] - 1
    counts = np.bincount(of)
    centres = np.stack([np.bincount(of, voxels[:, axis]) / counts for axis in range(3)], axis=1)
    distance = np.linalg.norm(voxels - centres[of], axis=1)
    order = np.lexsort((distance, of))
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(voxels[order[first]], dtype=np.int64)


def _label_beside(
    labels: NDArray[np.integer], voxel: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> int:
    """The label nearest to a voxel; 0 where there is none within ``BESIDE_MM``."""
    reach = np.ceil(BESIDE_MM / spacing_mm).astype(int)
    low = np.maximum(voxel - reach, 0)
    near = labels[tuple(slice(a, b) for a, b in zip(low, voxel + reach + 1, strict=True))]
    found = np.argwhere(near)
    if not len(found):
        return 0
    away = np.linalg.norm((found + low - voxel) * spacing_mm, axis=1)
    return int(near[tuple(found[np.argmin(away)])])
