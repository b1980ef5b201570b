"""A scan and a label map: an array with its place in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import Reason, ScanError, printable

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IdArray = NDArray[np.int32]
WholeArray = NDArray[np.integer[Any]]
MaskArray = NDArray[np.bool_]
AnyArray = NDArray[Any]


def check_affine(affine: AnyArray, name: str) -> DoubleArray:
    """Return the affine as float64, if it is 4x4, finite and not singular."""
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4):
        raise ScanError(f"{name}: affine of shape {affine.shape}; it must be 4x4")
    if not np.isfinite(affine).all():
        raise ScanError(f"{name}: the affine holds NaN or infinity; mend the header first")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ScanError(
            f"{name}: the affine is singular, so the voxels have no volume; mend the header first"
        )
    return affine


def grid_text(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> str:
    """Return a grid in words.

    >>> grid_text((181, 217, 181), (1.0, 1.0, 1.25))
    '181 × 217 × 181 voxels of 1 × 1 × 1.25 mm'
    """
    sizes = " × ".join(f"{mm:.3g}" for mm in spacing_mm)
    return f"{' × '.join(map(str, shape))} voxels of {sizes} mm"


class Placed:
    """What lies in space: ``affine`` is voxel index to RAS mm."""

    affine: DoubleArray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j and k, in millimetres."""
        si, sj, sk = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(si), float(sj), float(sk))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0


@dataclass(frozen=True, eq=False, repr=False)
class _Array3D(Placed):
    data: AnyArray
    affine: DoubleArray
    name: str = "image"
    header: Any = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ScanError(f"{self.name}: {self.data.ndim} axes; a scan must have 3")
        object.__setattr__(self, "affine", check_affine(self.affine, self.name))

    def __repr__(self) -> str:
        name, kind = printable(self.name), self.data.dtype
        return f"<{type(self).__name__} '{name}': {grid_text(self.shape, self.spacing_mm)}, {kind}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.data.shape
        return (i, j, k)


@dataclass(frozen=True, eq=False, repr=False)
class Volume(_Array3D):
    """A 3-D scan: ``data`` float32 with axes i j k, ``affine`` voxel to RAS mm.

    ``header`` is the nibabel header it came with, or None; ``name`` is used in messages and file
    names (no folder, no suffix). ``notes`` says what its file leaves in doubt, such as left and
    right: no result of it passes without them. ``date`` is the day it was taken, as ``2026-11-29``;
    empty where its file does not say.
    """

    notes: tuple[Reason, ...] = ()
    date: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap(_Array3D):
    """FreeSurfer ids on a grid: ``data`` is an integer array with axes i j k."""
