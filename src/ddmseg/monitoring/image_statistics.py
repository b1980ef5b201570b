"""Noise and contrast of a scan, measured in the tissue that the labels name."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

WHITE_MATTER = (2, 41)
CORTEX = (3, 42)
"""FreeSurfer ids of both sides."""
FEWEST = 50
"""Voxels, or pairs of them, below which a tissue says nothing."""
CUT = 3.0
"""Differences beyond so many standard deviations are edges, not noise."""
_NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution ..."""
_CUT_FACTOR = 1.0136
"""... and over the root mean square of what the cut leaves of it."""


def tissue_statistics(scan: NDArray[np.float32], labels: NDArray[np.int32]) -> dict[str, float]:
    """Return noise, signal to noise and contrast to noise; NaN where a tissue is too small.

    The noise is measured in white matter, not in air: scanners, converters and removal of
    the face set air to 0. It is the spread of the difference of neighbouring voxels, so that
    neither a bias field nor the level counts, and robust against the tissue's rim. Scans
    that were interpolated have neighbours that agree, and seem to have less noise.

    The contrast is white minus grey: negative in T2-weighted scans.

    Args:
        scan: intensities (``i j k``).
        labels: FreeSurfer ids on the same grid.
    """
    box = _box(np.isin(labels, (*WHITE_MATTER, *CORTEX)))
    scan, labels = scan[box], labels[box]
    white, grey = _inner(labels, WHITE_MATTER), np.isin(labels, CORTEX)
    noise = _neighbour_noise(scan, white)
    signal = _median(scan[white])
    contrast = signal - _median(scan[grey])
    return {
        "noise": noise,
        "signal_to_noise": signal / noise if noise > 0 else math.nan,
        "contrast_to_noise": contrast / noise if noise > 0 else math.nan,
    }


def _box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The voxels around a mask; nothing where it is empty."""
    sides = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        places = np.flatnonzero(inside.any(axis=others))
        sides.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return tuple(sides)


def _inner(labels: NDArray[np.int32], ids: Collection[int]) -> NDArray[np.bool_]:
    """A tissue without its outermost voxels, which hold something of the neighbour."""
    whole = np.isin(labels, list(ids))
    inner = binary_erosion(whole)
    return inner if inner.sum() >= FEWEST else whole


def _neighbour_noise(scan: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    differences = np.concatenate(list(_differences(scan, inside)))
    if len(differences) < FEWEST:
        return math.nan
    size = np.abs(differences, dtype=np.float64)
    first = _NORMAL * float(np.median(size)) or float(size.mean())
    # the median of whole numbers is one itself; within its reach the mean square is finer
    within = size[size <= CUT * first]
    # the difference of two voxels has twice the variance of one
    return _CUT_FACTOR * math.sqrt(float((within**2).mean()) / 2)


def _differences(
    scan: NDArray[np.float32], inside: NDArray[np.bool_]
) -> Iterator[NDArray[np.float32]]:
    for axis in range(3):
        values, mask = np.moveaxis(scan, axis, 0), np.moveaxis(inside, axis, 0)
        pairs = mask[1:] & mask[:-1]
        yield (values[1:] - values[:-1])[pairs]


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if len(values) >= FEWEST else math.nan
