"""What was done to a scan, step by step, and how each step is undone.

A step that moves voxels has ``inverse``: the map from an index after the step to the index before
it. Those maps compose, so a whole chain is undone at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from ddmseg.imaging.grid import IndexMap, Shape3, Triple, triple
from ddmseg.imaging.intensity import CEILING
from ddmseg.imaging.volume import FloatArray


@dataclass(frozen=True)
class Step:
    """One thing that was done to a scan."""

    name: ClassVar[str] = ""

    def describe(self) -> dict[str, Any]:
        """Return the step as plain values, ready for JSON."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"step": self.name, **plain}


@dataclass(frozen=True)
class Reorient(Step):
    """Axes permuted and flipped to the closest RAS."""

    name: ClassVar[str] = "reorient"
    shape: Shape3
    axes: Shape3
    flips: tuple[bool, bool, bool]

    @property
    def inverse(self) -> IndexMap:
        """Map from an index after this step to the index before it."""
        scale = [-1.0 if flip else 1.0 for flip in self.flips]
        offset = [n - 1 if flip else 0 for flip, n in zip(self.flips, self.shape, strict=True)]
        return IndexMap(self.axes, triple(scale), triple(offset))

    def apply(self, image: FloatArray) -> FloatArray:
        """Return a view of the image with axes nearest to RAS."""
        i, j, k = (slice(None, None, -1 if flip else None) for flip in self.flips)
        return image.transpose(self.axes)[i, j, k]


@dataclass(frozen=True)
class Crop(Step):
    """Voxels from ``start`` on kept, ``shape`` of them."""

    name: ClassVar[str] = "crop"
    shape: Shape3
    start: Shape3

    @property
    def inverse(self) -> IndexMap:
        """Map from an index after this step to the index before it."""
        return IndexMap((0, 1, 2), (1.0, 1.0, 1.0), triple(self.start))


@dataclass(frozen=True)
class Resample(Step):
    """Brought to another spacing: voxel ``m`` was at ``ratio * m + offset``."""

    name: ClassVar[str] = "resample"
    shape: Shape3
    ratio: Triple
    offset: Triple

    @property
    def inverse(self) -> IndexMap:
        """Map from an index after this step to the index before it."""
        return IndexMap((0, 1, 2), self.ratio, self.offset)


@dataclass(frozen=True)
class Pad(Step):
    """Zeros put before and after."""

    name: ClassVar[str] = "pad"
    shape: Shape3
    before: Shape3

    @property
    def inverse(self) -> IndexMap:
        """Map from an index after this step to the index before it."""
        return IndexMap((0, 1, 2), (1.0, 1.0, 1.0), triple([-n for n in self.before]))

    def apply(self, image: FloatArray) -> FloatArray:
        """Return the image in its frame of zeros."""
        out = np.zeros(self.shape, dtype=np.float32)
        inner = zip(self.before, image.shape, strict=True)
        out[tuple(slice(before, before + n) for before, n in inner)] = image
        return out


@dataclass(frozen=True)
class Normalise(Step):
    """Intensities from ``low`` to ``high`` brought to 0 to 1, cut at 0 and 1.5."""

    name: ClassVar[str] = "normalise"
    low: float
    high: float

    def apply(self, image: FloatArray) -> FloatArray:
        """Return the normalised image."""
        scaled = (image - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.asarray(np.clip(scaled, 0.0, CEILING), dtype=np.float32)


@dataclass(frozen=True)
class FillSlices(Step):
    """Slices without a signal: ``filled`` from their neighbours, or ``left`` in wide gaps."""

    name: ClassVar[str] = "fill_slices"
    axis: int
    filled: tuple[int, ...]
    left: tuple[int, ...]


@dataclass(frozen=True)
class FillPadding(Step):
    """A constant value outside the head, in so many voxels, replaced by that of air."""

    name: ClassVar[str] = "fill_padding"
    value: float
    air: float
    voxels: int


@dataclass(frozen=True)
class Turn(Step):
    """Turned or straightened to the axes of the world, on a grid around the whole scan."""

    name: ClassVar[str] = "turn"
    oblique_degrees: float
    shear_degrees: float
    spacing_mm: float
    shape: Shape3


GeometryStep = Reorient | Crop | Resample | Pad


def inverse_of_all(steps: Sequence[Step]) -> IndexMap:
    """Return the map from an index after all steps to the index before the first.

    Of a turned scan, to the index after it was turned.
    """
    total = IndexMap.identity()
    for step in reversed(steps):
        if isinstance(step, GeometryStep):
            total = total.then(step.inverse)
    return total
