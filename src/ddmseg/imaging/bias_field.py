"""Removal of the slow intensity variation of a scan, by N4 where SimpleITK is installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import MissingExtraError

SHRINK = 4
"""The field is so smooth that it is fitted on every fourth voxel."""


def correct_bias(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image without its bias field.

    Source: Tustison et al. 2010, N4ITK; the field is fitted in the foreground
    that Otsu's threshold gives, with SimpleITK's defaults.

    Raises:
        MissingExtraError: when SimpleITK is not installed.
    """
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise MissingExtraError("SimpleITK", "n4") from error
    scan = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    mask = sitk.OtsuThreshold(scan, 0, 1)
    shrink = [min(SHRINK, length) for length in scan.GetSize()]
    fitter = sitk.N4BiasFieldCorrectionImageFilter()
    fitter.Execute(sitk.Shrink(scan, shrink), sitk.Shrink(mask, shrink))
    field = np.exp(sitk.GetArrayFromImage(fitter.GetLogBiasFieldAsImage(scan)))
    return np.asarray(image / np.maximum(field, 1e-3), dtype=np.float32)
