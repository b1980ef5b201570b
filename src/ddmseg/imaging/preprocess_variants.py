"""Preprocessing as tables of evidence vary it, one thing at a time.

The order is fixed: bias field, resampling there and back, normalisation. Whatever is chosen, images
come back in about [0, 1] on their own grid, so that augmentation and networks stay the same and a
difference in a table is one of preprocessing alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ddmseg.errors import ScanError
from ddmseg.imaging.grid import covering, three, triple
from ddmseg.imaging.intensity import CEILING, correct_bias, normalise
from ddmseg.imaging.resample import resample
from ddmseg.imaging.volume import AnyArray, DoubleArray, FloatArray

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0
DEVIATIONS = 3.0  # standard deviations below the mean that become 0, and above it that become 1


def prepare_intensities(
    data: AnyArray,
    spacing_mm: Sequence[float],
    *,
    normalisation: str = "robust",
    bias_field: bool = False,
    resample_mm: float = 0.0,
) -> FloatArray:
    """Return a scan as a network sees it, on its own grid, in [0, 1.5].

    Args:
        normalisation: one of ``NORMALISATIONS``, as settings have it.
        bias_field: correct slow intensity variation by N4 first (needs SimpleITK). On a crop
            without air the fit sees the brighter half of the tissue alone.
        resample_mm: voxel edge to resample to and back from; 0 leaves the scan alone.
    """
    if bias_field:
        data = correct_bias(np.asarray(data, dtype=np.float32))
    if resample_mm > 0:
        data = there_and_back(data, spacing_mm, resample_mm)
    return NORMALISATIONS[normalisation](data)


def there_and_back(data: AnyArray, spacing_mm: Sequence[float], other_mm: float) -> FloatArray:
    """Resample to cubes of ``other_mm`` and back: what remains is what such voxels can hold.

    The coarse grid shares the scan's centre and reaches at least as far.
    """
    # a sliver of rounding must not add a voxel
    there, shape = covering(three(data.shape), triple(spacing_mm), other_mm, sliver=1e-6)
    return resample(resample(data, there, shape), there.inverse(), three(data.shape))


def z_score(data: AnyArray) -> FloatArray:
    """Centre on the mean and divide by the standard deviation of the tissue.

    Tissue is every voxel but those of the lowest value, which is air where a skull has been
    stripped. The score is then placed by one fixed line, -3 at 0 and 3 at 1: the augmentation wants
    about [0, 1], and a fixed line takes nothing away.
    """
    image = _checked(data)
    tissue = image[image > image.min()]
    spread = float(tissue.std(dtype=np.float64))
    if spread == 0:
        raise ScanError(
            f"the tissue has no contrast: each voxel is {tissue[0]:g}; give a scan with contrast"
        )
    score = (image - float(tissue.mean(dtype=np.float64))) / spread
    return np.clip(0.5 + score / (2 * DEVIATIONS), 0, CEILING).astype(np.float32)


def min_max(data: AnyArray) -> FloatArray:
    """Bring the lowest voxel to 0 and the highest to 1; one bright spike moves all others."""
    image = _checked(data)
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low)).astype(np.float32)


def percentiles(data: AnyArray) -> FloatArray:
    """Bring the 1st percentile of all voxels to 0 and the 99th to 1, and cut what is beyond."""
    image = _checked(data)
    low, high = (float(v) for v in np.percentile(image, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    if high <= low:
        raise ScanError(
            f"the image has no contrast: 98% of its voxels are {low:g}; give a cropped scan"
        )
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)


def _checked(data: AnyArray) -> DoubleArray:
    """The image, finite as all that are read, as float64; a ScanError where it has no contrast."""
    image = np.asarray(data, dtype=np.float64)
    if image.min() == image.max():
        raise ScanError(
            f"the image has no contrast: each voxel is {image.flat[0]:g}; give a scan in which "
            "tissue differs from air"
        )
    return image


NORMALISATIONS: Mapping[str, Callable[[AnyArray], FloatArray]] = MappingProxyType(
    {"robust": normalise, "z_score": z_score, "min_max": min_max, "percentiles": percentiles}
)
"""Ways to bring a scan to about [0, 1]; ``robust`` is what the package uses everywhere."""
