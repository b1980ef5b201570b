"""Whatever a caller holds, as a checked scan."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from ddmseg.errors import UsageError
from ddmseg.imaging.volume import Volume


def as_volume(image: object) -> Volume:
    """Turn what a caller may hold into a checked scan.

    Raises:
        ScanError: when it is not usable.
        UsageError: when it is of no kind that is known.
    """
    from ddmseg.imaging.nifti import read_volume, volume_from_array, volume_from_nibabel

    if isinstance(image, Volume):
        return image
    if isinstance(image, str | PathLike):
        return read_volume(Path(image))
    if isinstance(image, tuple) and len(image) == 2:
        return volume_from_array(np.asarray(image[0]), np.asarray(image[1]))
    if hasattr(image, "dataobj") and hasattr(image, "affine"):
        return volume_from_nibabel(image)  # type: ignore[arg-type]
    raise UsageError(
        f"image: got {type(image).__name__}; give a path, a nibabel image or (array, affine)"
    )
