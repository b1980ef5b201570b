"""The scans that speed is measured on, and larger ones made of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from ddmseg.imaging.grid import IndexMap, three, triple
from ddmseg.imaging.nifti import read_volume, write_map
from ddmseg.imaging.resample import resample
from ddmseg.imaging.volume import Volume
from ddmseg.inference.scan_encoding import content_hash

DEMO = "demo head"
PADDED_SIDE = 256


def demo_head() -> Path:
    """Return the file of the whole head that comes with the package."""
    return Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))


def find_scans(paths: Sequence[Path]) -> dict[str, Path]:
    """Return each different scan by name; the whole head of the package where none is given.

    File names may tell of a patient, so that a scan is called by a hash of its voxels.
    """
    named = {f"scan {content_hash(read_volume(path))[:8]}": path for path in paths}
    return named or {DEMO: demo_head()}


def padded(scan: Volume, side: int) -> Volume:
    """Return the scan in the middle of a cube of zeros, in its place in space."""
    before = [(side - n) // 2 for n in scan.shape]
    after = [side - n - b for n, b in zip(scan.shape, before, strict=True)]
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    data = np.pad(scan.data, list(zip(before, after, strict=True)))
    return Volume(data, affine, f"padded_{side}")


def refined(scan: Volume, factor: float) -> Volume:
    """Return the same head with about ``factor`` times as many voxels, finer or coarser."""
    shape = three(max(1, round(n * factor ** (1 / 3))) for n in scan.shape)
    scale = np.divide(scan.shape, shape)
    offset = (scale - 1) / 2  # the outer faces of both grids coincide
    index_map = IndexMap((0, 1, 2), triple(scale), triple(offset))
    data = resample(scan.data, index_map, shape)
    return Volume(data, scan.affine @ index_map.matrix, f"voxels_{data.size}")


def written(scan: Volume, folder: Path) -> Path:
    """Write a scan made of another one into a folder, and return the file."""
    path = folder / f"{scan.name}.nii.gz"
    write_map(path, scan.data, scan, description="made of another scan")
    return path
