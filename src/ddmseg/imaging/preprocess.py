"""From a scan to the grid a model works on, and exactly back.

The model grid runs along the scan's own axes, permuted and flipped to the
closest RAS, so undoing is separable. Only a scan that lies askew by more than a few
degrees is turned to the axes of the world first (``upright``).
Every step records how its indices map to those of the grid before; the maps
compose, so results return to the scan's grid in one interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.errors import ScanError, SettingsError
from ddmseg.imaging import resample as resampling
from ddmseg.imaging.grid import Grid, Shape3, Triple, TurnedMap, three, to_closest_ras, triple
from ddmseg.imaging.head_box import find_head
from ddmseg.imaging.intensity import intensity_range
from ddmseg.imaging.repairs import fill_empty_slices, fill_padding, upright
from ddmseg.imaging.transforms import (
    Crop,
    Normalise,
    Pad,
    Reorient,
    Resample,
    Step,
    Turn,
    inverse_of_all,
)
from ddmseg.imaging.volume import Volume

SPACING_RANGE_MM = (0.1, 20.0)
"""Voxel edges of a model grid."""
MAX_VOXELS = 512**3
"""Voxels of the largest model grid."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan ready for a model, and the way back.

    Attributes:
        image: normalised intensities in [0, 1.5] on the model grid, axes nearest
            to RAS, zero in the padding.
    """

    image: NDArray[np.float32]
    grid: Grid
    steps: tuple[Step, ...]
    input_grid: Grid

    @property
    def is_turned(self) -> bool:
        """Whether the scan was turned, so that the model grid runs askew to it."""
        return any(isinstance(step, Turn) for step in self.steps)

    @property
    def to_input(self) -> resampling.AnyMap:
        """Map from an index of the model grid to one of the scan."""
        if self.is_turned:
            return TurnedMap.between(self.grid, self.input_grid)
        return inverse_of_all(self.steps)

    @property
    def from_input(self) -> resampling.AnyMap:
        """Map from an index of the scan to one of the model grid."""
        if self.is_turned:
            return TurnedMap.between(self.input_grid, self.grid)
        return inverse_of_all(self.steps).inverse()

    def describe(self) -> list[dict[str, Any]]:
        """Return all steps as plain values, ready for JSON."""
        return [step.describe() for step in self.steps]

    def labels_to_input(
        self, probabilities: torch.Tensor, label_ids: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map on the scan's grid: interpolate, then take the winner.

        Args:
            probabilities: axes k i j k on the model grid; class 0 is background.

        Raises:
            ScanError: when the shape is not that of the model grid.
        """
        self._check(probabilities.shape[1:])
        if len(label_ids) != probabilities.shape[0]:
            raise ScanError(
                f"{probabilities.shape[0]} classes came with {len(label_ids)} label ids; "
                "give one id a class"
            )
        winner = resampling.resample_winner(probabilities, self.from_input, self.input_grid.shape)
        return np.asarray(label_ids, dtype=np.int32)[winner]

    def classes_to_input(
        self, classes: NDArray[np.integer[Any]], label_ids: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return class indices of the model grid as ids on the scan's grid.

        Made of indices alone, so edges are those of the model's voxels; where there
        are probabilities, :meth:`labels_to_input` is smoother.

        Raises:
            ScanError: when the shape is not that of the model grid.
        """
        self._check(classes.shape)
        nearest = resampling.resample_labels(classes, self.from_input, self.input_grid.shape)
        labels: NDArray[np.int32] = np.asarray(label_ids, dtype=np.int32)[nearest]
        return labels

    def probabilities_to_input(self, probabilities: torch.Tensor) -> NDArray[np.float32]:
        """Return the probabilities on the scan's grid, classes last (``i j k class``).

        Outside the model grid the background, class 0, is certain.
        """
        self._check(probabilities.shape[1:])
        return resampling.resample_classes(probabilities, self.from_input, self.input_grid.shape)

    def map_to_input(self, values: NDArray[Any], fill: float = 0.0) -> NDArray[np.float32]:
        """Return a map of the model grid on the scan's grid; ``fill`` outside."""
        self._check(values.shape)
        return resampling.resample(values, self.from_input, self.input_grid.shape, fill=fill)

    def labels_from_input(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels of the scan's grid on the model grid, by share of each voxel.

        At equal spacing this is the nearest label; at a coarser one, picking the
        nearest would shift structures by half an input voxel.
        """
        if labels.shape != self.input_grid.shape:
            raise ScanError(
                f"label map of shape {labels.shape}; the scan has {self.input_grid.shape}"
            )
        return resampling.resample_labels(labels, self.to_input, self.grid.shape)

    def _check(self, shape: Sequence[int]) -> None:
        if tuple(shape) != self.grid.shape:
            raise ScanError(f"shape {tuple(shape)} came; the model grid has {self.grid.shape}")


def prepare(
    volume: Volume,
    *,
    spacing_mm: float,
    multiple: int = 16,
    crop_to_head: bool = True,
) -> Prepared:
    """Bring a scan to the model grid.

    Args:
        volume: any axis order, spacing and obliquity; turned where that is more than 12 degrees.
        spacing_mm: voxel edge of the model grid, in [0.1, 20].
        multiple: each side of the model grid is a multiple of this.

    Raises:
        ScanError: when the scan has no contrast.
        SettingsError: when a setting is out of range.
    """
    _check_settings(spacing_mm, multiple)
    input_grid = Grid(volume.shape, volume.affine)
    data, padding = fill_padding(volume.data)
    data, gaps = fill_empty_slices(data, input_grid.spacing_mm)
    steps: list[Step] = [*padding, *gaps]
    try:
        data, straight, turns = upright(data, input_grid, spacing_mm=spacing_mm)
        image, geometry = _to_model_grid(data, straight, spacing_mm, multiple, crop_to_head)
    except ScanError as error:
        raise ScanError(f"{volume.name}: {error}") from error
    steps += [*turns, *geometry]
    grid = straight.seen_through(inverse_of_all(steps), three(image.shape))
    return Prepared(image, grid, tuple(steps), input_grid)


def _to_model_grid(
    data: NDArray[np.float32], grid: Grid, spacing_mm: float, multiple: int, crop_to_head: bool
) -> tuple[NDArray[np.float32], list[Step]]:
    """Reorient, crop, resample, normalise and pad, in this order."""
    steps: list[Step] = []
    reorient = _reorient(grid)
    data = reorient.apply(data)
    spacings = grid.seen_through(reorient.inverse, reorient.shape).spacing_mm
    if crop_to_head:
        box = find_head(data, spacings)
        data = data[box]
        steps = [Crop(three(data.shape), three(side.start for side in box))]
    resample = _resample(three(data.shape), spacings, spacing_mm)
    pad = _pad(resample.shape, multiple)
    if math.prod(pad.shape) > MAX_VOXELS:
        shown = " x ".join(str(n) for n in pad.shape)
        raise ScanError(
            f"{spacing_mm:g} mm voxels would make a model grid of {shown}; at most "
            f"{MAX_VOXELS} voxels are allowed; choose a larger spacing"
        )
    data = resampling.resample(data, resample.inverse, resample.shape)
    # after cropping and before padding: air outside the head must not move the range
    normalise = Normalise(*intensity_range(data))
    return pad.apply(normalise.apply(data)), [reorient, *steps, resample, normalise, pad]


def _check_settings(spacing_mm: float, multiple: int) -> None:
    low, high = SPACING_RANGE_MM
    if not low <= spacing_mm <= high:
        raise SettingsError(
            f"spacing_mm: got {spacing_mm:g}; it must be between {low:g} and {high:g}"
        )
    if multiple < 1:
        raise SettingsError(f"multiple: got {multiple}; it must be 1 or above")


def _reorient(grid: Grid) -> Reorient:
    index_map, shape = to_closest_ras(grid)
    i, j, k = (scale < 0 for scale in index_map.scale)
    return Reorient(shape, index_map.axes, (i, j, k))


def _resample(lengths: Shape3, spacings: Triple, spacing_mm: float) -> Resample:
    """Cover the image with voxels of ``spacing_mm``, both centred on the same point."""
    shape, ratio, offset = [], [], []
    for n, spacing in zip(lengths, spacings, strict=True):
        r = spacing_mm / spacing
        # a spacing that differs by header rounding alone is not worth blurring for
        r = 1.0 if abs(r - 1.0) < 1e-4 else r
        m = max(1, math.ceil(n / r - 1e-3))
        shape.append(m)
        ratio.append(r)
        offset.append((n - 1) / 2 - r * (m - 1) / 2)
    return Resample(three(shape), triple(ratio), triple(offset))


def _pad(shape: Shape3, multiple: int) -> Pad:
    full = [math.ceil(n / multiple) * multiple for n in shape]
    before = [(m - n) // 2 for m, n in zip(full, shape, strict=True)]
    return Pad(three(full), three(before))


def within(prepared: Prepared, box: tuple[slice, ...]) -> Prepared:
    """Return the prepared scan cut to a box of its model grid, still undoable."""
    image = prepared.image[box]
    crop = Crop(three(image.shape), three(side.start for side in box))
    grid = prepared.grid.seen_through(crop.inverse, crop.shape)
    return replace(prepared, image=image, grid=grid, steps=(*prepared.steps, crop))
