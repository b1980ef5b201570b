"""Tissue that is missing on one side: fluid where the other half of the brain has tissue.

A cavity looks like the ventricle or the fluid that it is labelled as, so nothing about it is
unlike its structure. But the other half has tissue there. Both halves are laid on each other by
the plane between left and right structures. No brain is its own mirror image: so tissue counts
as missing only where the other half has it for some millimetres around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.imaging.labels import count_voxels, mirror_index, structure

FLUID = (4, 5, 14, 15, 24, 43, 44)
"""Ids of ventricles and CSF; what has no label is no tissue either."""
GRID_MM = 2.0
"""Voxels on which halves are compared."""
SMOOTHING_MM = 3.0
"""Standard deviation of the Gaussian that makes a share of tissue of labels."""
TOLERANCE_MM = 6.0
"""How far around a place the other half must have tissue."""
LEAST_SHARE = 0.4
"""Less tissue than anywhere around the same place of the other half, as a share of volume."""
FEWEST_PAIRS = 5
"""Structures with a left and a right that the plane rests on at least."""


def missing_tissue(
    labels: NDArray[np.integer], spacing_mm: Sequence[float]
) -> tuple[float, str | None]:
    """Return the ml of the largest piece where tissue is missing, and its side.

    The volume is that of the core, smaller than the cavity itself.

    0 and None where nothing is missing, or where too few structures have two sides.

    Args:
        labels: FreeSurfer ids (``*grid``).
    """
    steps = [max(1, round(GRID_MM / mm)) for mm in spacing_mm]
    coarse = labels[tuple(slice(None, None, step) for step in steps)]
    edges = np.asarray(spacing_mm) * steps
    plane = _middle(coarse, edges)
    if plane is None:
        return 0.0, None
    normal, offset = plane
    tissue = ((coarse != 0) & ~np.isin(coarse, FLUID)).astype(np.float32)
    # Beyond the edge of the image nobody knows: what is cut there is not missing.
    share = ndimage.gaussian_filter(tissue, SMOOTHING_MM / edges, mode="nearest")
    around = ndimage.minimum_filter(share, [2 * round(TOLERANCE_MM / mm) + 1 for mm in edges])
    # In mm, the mirror image of x is x - 2 (normal x - offset) normal.
    turn = np.eye(3) - 2 * np.outer(normal, normal)
    matrix = np.diag(1 / edges) @ turn @ np.diag(edges)
    other = ndimage.affine_transform(around, matrix, 2 * offset * normal / edges, order=1)
    pieces, count = ndimage.label(other - share >= LEAST_SHARE)
    if not count:
        return 0.0, None
    sizes = np.bincount(pieces.ravel())[1:]
    centre = np.argwhere(pieces == sizes.argmax() + 1).mean(axis=0) * edges
    side = "left" if centre @ normal > offset else "right"
    return float(sizes.max() * np.prod(edges)) / 1000, side


def _middle(
    labels: NDArray[np.integer], spacing_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Return the plane between left and right: its normal, towards the left, and offset in mm."""
    found = count_voxels(labels)
    named_left = [i for i in found if i and structure(i).name.startswith("Left-")]
    lefts = [i for i in named_left if mirror_index(i) in found]
    if len(lefts) < FEWEST_PAIRS:
        return None
    # ndimage.center_of_mass takes twenty times as long for so many structures.
    places = np.nonzero(labels)
    ids = labels[places]
    sums = np.stack([np.bincount(ids, weights=along) for along in places], axis=1)
    rights = [mirror_index(i) for i in lefts]
    left, right = (sums[i] / np.bincount(ids)[i][:, None] * spacing_mm for i in (lefts, rights))
    across = left - right
    normal = np.median(across / np.linalg.norm(across, axis=1, keepdims=True), axis=0)
    normal /= np.linalg.norm(normal)
    return normal, float(np.median((left + right) / 2 @ normal))
