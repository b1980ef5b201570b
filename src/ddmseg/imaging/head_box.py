"""Where in a scan the head is: a bounding box that noise and hot voxels do not move."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ddmseg.imaging.grid import Triple
from ddmseg.imaging.intensity import intensity_range
from ddmseg.imaging.turned import Box
from ddmseg.imaging.volume import AnyArray, FloatArray, MaskArray

BLOCK_MM = 4.0  # edge of the blocks that are averaged before thresholding, which tames noise
MARGIN_MM = 8.0  # room kept around the head
HEAD_HEIGHT_MM = 220.0
"""Kept below the top of the head: brain, skull and chin of a tall person, no neck."""
LEAST_SHARE = 0.1  # parts smaller than this share of the largest one are ghosts or markers
LEAST_HEAD_ML = 100.0  # a smaller object is no head; the scan is then left whole


def find_head(image: FloatArray, spacing_mm: Triple) -> Box:
    """Return the box of the head with its margin, in an image with axes nearest to RAS.

    The image is averaged over blocks of 4 mm with spikes clipped, thresholded half-way between air
    and Otsu's threshold, and its large connected parts taken; skull-stripped scans too. An image in
    which nothing of at least 100 ml stands out comes back whole.
    """
    blocks = [max(1, round(BLOCK_MM / s)) for s in spacing_mm]
    blocks = [min(b, n) for b, n in zip(blocks, image.shape, strict=True)]
    low, high = intensity_range(image)
    coarse = _block_mean(np.clip(image, low, high), blocks)
    head = _large_parts(coarse > _air_threshold(coarse))
    block_ml = float(np.prod(blocks) * np.prod(spacing_mm)) / 1000.0
    if head.sum() * block_ml < LEAST_HEAD_ML:
        return slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2])
    found = ndimage.find_objects(head.astype(np.int8))[0]
    top = found[2].stop * blocks[2]
    i, j, k = (
        _with_margin(s, b, n, mm)
        for s, b, n, mm in zip(found, blocks, image.shape, spacing_mm, strict=True)
    )
    lowest = max(k.start, top - round(HEAD_HEIGHT_MM / spacing_mm[2]))
    return i, j, slice(lowest, k.stop)


def _block_mean(image: AnyArray, blocks: list[int]) -> AnyArray:
    """Mean over blocks; the last, partial block of an axis averages what there is."""
    for axis, block in enumerate(blocks):
        starts = np.arange(0, image.shape[axis], block)
        counts = np.diff(np.append(starts, image.shape[axis]))
        sums = np.add.reduceat(image, starts, axis=axis)
        image = sums / counts.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return image


def _air_threshold(image: FloatArray) -> float:
    """Half-way between the mean of air and Otsu's threshold (Otsu 1979, eq. 18).

    Otsu alone would cut off tissue that lies in the shade of the coil.
    """
    counts, edges = np.histogram(image, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    sums = np.cumsum(counts * centres)
    above = counts.sum() - below
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    split = int(np.argmax(below * above * (mean_below - mean_above) ** 2))
    return float((mean_below[split] + edges[split + 1]) / 2)


def _large_parts(mask: MaskArray) -> MaskArray:
    """Parts of at least a tenth of the largest; an opening cuts threads of ghosting first."""
    opened = ndimage.binary_opening(mask) if min(mask.shape) > 4 else mask
    parts, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= LEAST_SHARE * sizes.max())[parts] & (parts > 0))


def _with_margin(found: slice, block: int, length: int, spacing_mm: float) -> slice:
    margin = round(MARGIN_MM / spacing_mm)
    return slice(max(0, found.start * block - margin), min(length, found.stop * block + margin))
