"""From a scan to the grid a model works on, and exactly back.

The model grid runs along the scan's own axes, permuted and flipped to the closest RAS, so undoing
is separable. Only a scan that lies askew by more than a few degrees is turned to the axes of the
world first (``upright``). Every step records how its indices map to those of the grid before; the
maps compose, so results return to the scan's grid in one interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ddmseg.errors import ScanError, SettingsError
from ddmseg.imaging import resample as resampling
from ddmseg.imaging.grid import Grid, IndexMap, TurnedMap, covering, three, to_closest_ras, triple
from ddmseg.imaging.head_box import find_head
from ddmseg.imaging.intensity import CEILING, intensity_range
from ddmseg.imaging.repairs import fill_empty_slices, fill_padding, upright
from ddmseg.imaging.transforms import Step, inverse_of_all
from ddmseg.imaging.volume import AnyArray, FloatArray, IdArray, Volume, WholeArray

SPACING_RANGE_MM = (0.1, 20.0)  # voxel edges of a model grid
MAX_VOXELS = 512**3  # voxels of the largest model grid


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan ready for a model, and the way back.

    ``image`` holds normalised intensities in [0, 1.5] on the model grid, axes nearest to RAS, zero
    in the padding.
    """

    image: FloatArray
    grid: Grid
    steps: tuple[Step, ...]
    input_grid: Grid

    @property
    def is_turned(self) -> bool:
        """Whether the scan was turned, so that the model grid runs askew to it."""
        return any(step.name == "turn" for step in self.steps)

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

    def labels_to_input(self, probabilities: torch.Tensor, label_ids: Sequence[int]) -> IdArray:
        """Return the label map on the scan's grid: interpolate, then take the winner.

        ``probabilities`` have axes k i j k on the model grid; class 0 is background.
        """
        self._check(probabilities.shape[1:])
        if len(label_ids) != probabilities.shape[0]:
            raise ScanError(
                f"{probabilities.shape[0]} classes came with {len(label_ids)} label ids; "
                "give one id a class"
            )
        winner = resampling.resample_winner(probabilities, self.from_input, self.input_grid.shape)
        return np.asarray(label_ids, dtype=np.int32)[winner]

    def classes_to_input(self, classes: WholeArray, label_ids: Sequence[int]) -> IdArray:
        """Return class indices of the model grid as ids on the scan's grid.

        Edges are those of the model's voxels; with probabilities :meth:`labels_to_input` is
        smoother.
        """
        self._check(classes.shape)
        nearest = resampling.resample_labels(classes, self.from_input, self.input_grid.shape)
        return np.asarray(np.asarray(label_ids, dtype=np.int32)[nearest])

    def probabilities_to_input(self, probabilities: torch.Tensor) -> FloatArray:
        """Return probabilities on the scan's grid (``i j k class``); outside, class 0 is 1."""
        self._check(probabilities.shape[1:])
        return resampling.resample_classes(probabilities, self.from_input, self.input_grid.shape)

    def map_to_input(self, values: AnyArray, fill: float = 0.0) -> FloatArray:
        """Return a map of the model grid on the scan's grid; ``fill`` outside."""
        self._check(values.shape)
        return resampling.resample(values, self.from_input, self.input_grid.shape, fill=fill)

    def labels_from_input(self, labels: AnyArray) -> AnyArray:
        """Return labels of the scan's grid on the model grid, by share of each voxel.

        At equal spacing this is the nearest label; at a coarser one, picking the nearest would
        shift structures by half an input voxel.
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
    volume: Volume, *, spacing_mm: float, multiple: int = 16, crop_to_head: bool = True
) -> Prepared:
    """Bring a scan of any axis order, spacing and obliquity to the model grid.

    It is turned where it lies askew by more than 12 degrees. ``spacing_mm`` is the voxel edge of
    the model grid, in [0.1, 20], each side of which is a multiple of ``multiple``.

    Raises:
        ScanError: when the scan has no contrast.
        SettingsError: when a setting is out of range.
    """
    low, high = SPACING_RANGE_MM
    if not low <= spacing_mm <= high:
        raise SettingsError(
            f"spacing_mm: got {spacing_mm:g}; it must be between {low:g} and {high:g}"
        )
    if multiple < 1:
        raise SettingsError(f"multiple: got {multiple}; it must be 1 or above")
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
    data: FloatArray, grid: Grid, spacing_mm: float, multiple: int, crop_to_head: bool
) -> tuple[FloatArray, list[Step]]:
    """Reorient, crop, resample, normalise and pad, in this order."""
    closest, shape = to_closest_ras(grid)
    flips = [scale < 0 for scale in closest.scale]
    told = {"shape": list(shape), "axes": list(closest.axes), "flips": flips}
    steps = [Step("reorient", told, closest)]
    data = closest.view(data)
    spacings = grid.seen_through(closest, shape).spacing_mm
    if crop_to_head:
        box = find_head(data, spacings)
        data = data[box]
        steps.append(_crop(data.shape, box))
    # a spacing that differs by header rounding alone is not worth blurring for
    wanted = triple(spacing_mm if abs(spacing_mm / s - 1) < 1e-4 else s for s in spacings)
    covered, shape = covering(three(data.shape), wanted, spacing_mm, sliver=1e-3)
    full = [math.ceil(n / multiple) * multiple for n in shape]
    if math.prod(full) > MAX_VOXELS:
        shown = " x ".join(str(n) for n in full)
        raise ScanError(
            f"{spacing_mm:g} mm voxels would make a model grid of {shown}; at most "
            f"{MAX_VOXELS} voxels are allowed; choose a larger spacing"
        )
    data = resampling.resample(data, covered, shape)
    told = {"shape": list(shape), "ratio": list(covered.scale), "offset": list(covered.offset)}
    steps.append(Step("resample", told, covered))
    # after cropping and before padding: air outside the head must not move the range
    low, high = intensity_range(data)
    data = np.clip((data - np.float32(low)) / np.float32(high - low), 0.0, CEILING)
    steps.append(Step("normalise", {"low": low, "high": high}))
    before = [(m - n) // 2 for m, n in zip(full, shape, strict=True)]
    sides = [(b, m - n - b) for b, m, n in zip(before, full, shape, strict=True)]
    pad = Step("pad", {"shape": full, "before": before}, IndexMap.shift([-n for n in before]))
    return np.pad(data, sides), [*steps, pad]


def _crop(shape: Sequence[int], box: Sequence[slice]) -> Step:
    """Return the step that kept a box, ``shape`` voxels large."""
    start = [side.start for side in box]
    return Step("crop", {"shape": list(shape), "start": start}, IndexMap.shift(start))


def within(prepared: Prepared, box: tuple[slice, ...]) -> Prepared:
    """Return the prepared scan cut to a box of its model grid, still undoable."""
    image = prepared.image[box]
    crop = _crop(image.shape, box)
    grid = prepared.grid.seen_through(inverse_of_all([crop]), three(image.shape))
    return replace(prepared, image=image, grid=grid, steps=(*prepared.steps, crop))
