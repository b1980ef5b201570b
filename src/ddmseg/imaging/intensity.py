"""Robust intensity normalisation, the same for training and for inference; bias fields."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch

from ddmseg.errors import ScanError, optional
from ddmseg.imaging.volume import AnyArray, FloatArray

Array = TypeVar("Array", torch.Tensor, AnyArray)
LOW_QUANTILE = 0.005  # quantile of all voxels that becomes 0
HIGH_QUANTILE = 0.98  # quantile of the foreground that becomes 1
CEILING = 1.5  # largest value after normalising: fat and vessels may pass 1, spikes may not
MAX_SAMPLES = 1 << 17  # voxels that the quantiles are estimated from


def normalise(image: Array) -> Array:
    """Scale one image to about [0, 1], whatever its units.

    ``out = clip((x - low) / (high - low), 0, 1.5)`` with the two values of :func:`intensity_range`.
    Tensors stay on their device; arrays come back as float32.

    >>> [round(x, 2) for x in normalise(np.array([0.0, 0.0, 10.0, 20.0])).tolist()]
    [0.0, 0.0, 0.51, 1.01]
    """
    low, high = intensity_range(image)
    if isinstance(image, torch.Tensor):
        floats = image if image.is_floating_point() else image.float()
        return floats.sub(low).mul_(1.0 / (high - low)).clamp_(0.0, CEILING)
    out: AnyArray = np.subtract(image, low, dtype=np.float32)
    out *= 1.0 / (high - low)
    np.clip(out, 0.0, CEILING, out=out)
    return out


def intensity_range(image: torch.Tensor | AnyArray) -> tuple[float, float]:
    """Return ``(low, high)``: the intensities that normalise to 0 and to 1.

    ``low`` is the 0.5th percentile of all voxels; ``high`` the 98th percentile of the foreground,
    which is every voxel above the mean. Large images are sampled on a fixed lattice of at most
    ``MAX_SAMPLES`` voxels.

    Raises:
        ScanError: when the image is empty, not finite or has no contrast.
    """
    sample = lattice_sample(image)
    if sample.numel() == 0:
        raise ScanError("the image has no voxels; give a scan with at least one")
    low = float(torch.quantile(sample, LOW_QUANTILE))
    mean = sample.mean(dtype=torch.float64)
    foreground = sample[sample > mean.to(sample.dtype)]
    high = float(torch.quantile(foreground, HIGH_QUANTILE)) if foreground.numel() else low
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ScanError("the image holds NaN or infinity; give finite intensities")
    if high <= low:
        raise ScanError(
            f"the image has no contrast: its range is {low:g} to {high:g}; give a scan "
            "in which tissue differs from air"
        )
    return low, high


def lattice_sample(image: torch.Tensor | AnyArray) -> torch.Tensor:
    """Every n-th voxel along every axis as float32: no copy of the image, whatever its order."""
    step = 1
    while math.prod(-(-length // step) for length in image.shape) > MAX_SAMPLES:
        step += 1
    sample = image[(slice(None, None, step),) * image.ndim]
    if not isinstance(sample, torch.Tensor):
        sample = torch.from_numpy(np.array(sample, dtype=np.float32))
    return sample.detach().to(torch.float32).flatten()


SHRINK = 4  # the field is so smooth that it is fitted on every fourth voxel


def correct_bias(image: FloatArray) -> FloatArray:
    """Return the image without its bias field (N4), fitted in the foreground by Otsu's threshold.

    Source: Tustison et al. 2010, with SimpleITK's defaults.
    """
    sitk = optional("SimpleITK", "n4")
    scan = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    mask = sitk.OtsuThreshold(scan, 0, 1)
    shrink = [min(SHRINK, length) for length in scan.GetSize()]
    fitter = sitk.N4BiasFieldCorrectionImageFilter()
    fitter.Execute(sitk.Shrink(scan, shrink), sitk.Shrink(mask, shrink))
    field = np.exp(sitk.GetArrayFromImage(fitter.GetLogBiasFieldAsImage(scan)))
    return np.asarray(image / np.maximum(field, 1e-3), dtype=np.float32)
