"""Constant values that stand for "outside the image", put back to the signal of air.

Tools fill what they have no data for with -1000, -32768, 4095 or white. Such values move
the range that intensities are scaled by, and an intact brain then lies in a sliver of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.intensity import lattice_sample
from ddmseg.imaging.transforms import FillPadding

LEAST_SHARE = 0.005
"""Of all voxels: fewer move nothing, since quantiles are used."""
LEAST_FACES = 0.05
"""Of the voxels on the image's six faces: padding lies outside."""
WHITE_FACE = 0.5
"""Of the voxels on one face, from which the largest value is padding without a gap as well."""
GAP = 0.5
"""Distance from all other values, as a share of their range. Around a brain that was cut out
zero lies up to 0.29 below the rest, and somewhere below 0 after z-scoring."""
GAP_BELOW_AIR, AIR_SHARE, AIR_BAND = 0.05, 0.15, 0.1
"""Below air, which fills such a share of the other values within a tenth of their range, there
is nothing: a smaller gap will do."""
CORE = (0.005, 0.995)
"""Quantiles of the other values that are their range."""
MOST_VALUES = 4
"""Values of padding that are looked for, one after the other."""


def fill_padding(data: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[FillPadding]]:
    """Put air where a constant, extreme value lies outside the head.

    Zero is the signal of air: it is no padding when it is the smallest value.

    Args:
        data: the scan, ``i j k``; it is left as it is.

    Returns:
        The scan, itself when nothing was to do, and a step for each value.
    """
    steps: list[FillPadding] = []
    sample = lattice_sample(data).numpy()
    faces = _faces(data)
    while len(steps) < MOST_VALUES and (found := _padding(sample, faces)) is not None:
        value, air = found
        places = data == value
        data = np.where(places, np.float32(air), data)
        sample = np.where(sample == value, np.float32(air), sample)
        faces = [np.where(face == value, np.float32(air), face) for face in faces]
        steps.append(FillPadding(value, air, int(np.count_nonzero(places))))
    return data, steps


def _padding(
    sample: NDArray[np.float32], faces: list[NDArray[np.float32]]
) -> tuple[float, float] | None:
    """Return a value that is padding and what belongs there; None when there is none."""
    on_faces = np.concatenate(faces)
    for value in (float(sample.min()), float(sample.max())):
        rest = sample[sample != value]
        if len(rest) > (1 - LEAST_SHARE) * len(sample) or not len(rest):
            continue
        low, high = (float(q) for q in np.quantile(rest, CORE))
        if high <= low or (on_faces == value).mean() < LEAST_FACES:
            continue
        above = value > high
        if not above and value >= min(low, 0.0):
            continue
        white = above and max(float((face == value).mean()) for face in faces) >= WHITE_FACE
        band = (rest < low + AIR_BAND * (high - low)).mean()
        gap = GAP_BELOW_AIR if not above and band > AIR_SHARE else GAP
        if white or max(low - value, value - high) > gap * (high - low):
            near_zero = 0.0 <= low <= GAP * (high - low)
            return value, 0.0 if near_zero else low
    return None


def _faces(data: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Every other voxel of each face."""
    return [
        np.moveaxis(data, axis, 0)[end, ::2, ::2].ravel() for axis in range(3) for end in (0, -1)
    ]
