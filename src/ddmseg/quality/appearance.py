"""How unlike its structure a voxel looks: intensities that its label does not explain.

A network that was never shown a tumour labels it as what belongs there, without doubt. But grey
tissue that is called white matter does not look like white matter. So each voxel's intensity is
held against the median of its structure in the same scan, in robust standard deviations; slow
changes, which are the coil's, are taken out; and what is left is averaged over some millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.imaging.labels import labelled_box

AVERAGING_MM = 3.0
"""Standard deviation of the Gaussian that deviations are averaged with."""
SLOW_MM = 30.0
"""That of what counts as a slow change."""
SLOW_GRID_MM = 4.0
"""Voxels on which slow changes are measured."""
MOST_DEVIATIONS = 6.0
"""A vessel or an artefact counts no more than this."""
LEAST_SHARE = 0.5
"""Where fewer of the voxels nearby are labelled, the average shrinks instead of resting on few."""
FLUID = frozenset({24})
"""Ids that are not looked at: between folds and vessels fluid looks like anything."""


def unlikeness(
    image: NDArray[np.float32], labels: NDArray[np.integer], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Return the mean deviation of each voxel's surroundings from their structures (``*grid``).

    In robust standard deviations, at least 0; 0 outside the labels.

    Args:
        image: intensities of any scale.
        labels: FreeSurfer ids on the same grid.
    """
    found = np.zeros(labels.shape, np.float32)
    if not labels.any():
        return found
    box = labelled_box(labels)
    deviation, seen = _deviation(image[box], labels[box])
    deviation -= _slow(deviation, seen, spacing_mm)
    mean = average_within(deviation, seen, AVERAGING_MM / np.asarray(spacing_mm), LEAST_SHARE)
    found[box] = np.where(seen > 0, np.abs(mean), 0.0)
    return found


def average_within(
    values: NDArray[np.float32],
    inside: NDArray[np.float32],
    sigma: NDArray[np.float64],
    least_share: float,
) -> NDArray[np.float32]:
    """Return a Gaussian average of what lies inside (0 or 1), over voxels inside alone.

    Args:
        sigma: in voxels.
        least_share: where fewer of the voxels nearby are inside, the average shrinks.
    """
    total = ndimage.gaussian_filter(values * inside, sigma, truncate=2.0)
    share = ndimage.gaussian_filter(inside, sigma, truncate=2.0)
    return np.asarray(total / np.maximum(share, least_share))


def _deviation(
    image: NDArray[np.float32], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far each voxel is from its structure's median, and which voxels count."""
    middle = np.zeros(1 + int(labels.max()), np.float32)
    scale = np.zeros_like(middle)
    for index, own in enumerate(ndimage.find_objects(labels), start=1):
        if own is not None and index not in FLUID:
            values = image[own][labels[own] == index]
            middle[index] = np.median(values)
            spread = 1.4826 * np.median(np.abs(values - middle[index]))
            scale[index] = 1.0 / spread if spread > 0 else 0.0
    z = (image - middle[labels]) * scale[labels]
    seen = (scale[labels] > 0).astype(np.float32)
    return np.clip(np.nan_to_num(z), -MOST_DEVIATIONS, MOST_DEVIATIONS), seen


def _slow(
    deviation: NDArray[np.float32], seen: NDArray[np.float32], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Return the slow part of the deviations, measured on a coarse grid."""
    steps = [max(1, round(SLOW_GRID_MM / mm)) for mm in spacing_mm]
    coarse = tuple(slice(None, None, step) for step in steps)
    sigma = SLOW_MM / (np.asarray(spacing_mm) * steps)
    mean = average_within(deviation[coarse], seen[coarse], sigma, 0.05)
    # what ndimage.zoom with grid_mode gives, in less time
    whole = F.interpolate(torch.from_numpy(mean)[None, None], deviation.shape, mode="trilinear")
    return whole[0, 0].numpy()
