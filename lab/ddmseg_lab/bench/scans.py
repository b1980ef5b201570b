"""The scans that speed is measured on, and larger ones made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.grid import IndexMap, Shape3, three, triple
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.resample import resample
from ddmseg.imaging.volume import Volume
from ddmseg.inference.scan_encoding import content_hash
from ddmseg_lab.scans import HEADS

DEMO = "demo head"


@dataclass(frozen=True)
class BenchScan:
    """One scan to measure on.

    File names may tell of a patient, so its name in the records is a hash of the voxels.
    """

    name: str
    path: Path
    shape: Shape3


def demo_head() -> Path:
    """Return the file of the whole head that comes with the package."""
    return Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))


def development_brain(data: str) -> tuple[Path, NDArray[np.int32]]:
    """Return the first development scan of MALC2012 and its labels as FreeSurfer ids.

    What only one of the two protocols draws is 0.
    """
    (case,) = HEADS.cases("validation", data, 1)
    ids = HEADS.truth(case)
    return case.images[0], np.where(np.isin(ids, HEADS.structures), ids, 0)


def find_bench_scans(paths: Iterable[Path]) -> list[BenchScan]:
    """Return each different scan once; the whole head of the package where none is named."""
    named = list(paths)
    found: dict[str, BenchScan] = {}
    for path in named or [demo_head()]:
        volume = read_volume(path)
        name = f"scan {content_hash(volume)[:8]}" if named else DEMO
        found.setdefault(name, BenchScan(name, path, volume.shape))
    return list(found.values())


def padded_head(scan: Volume, side: int) -> Volume:
    """Return the scan in the middle of a cube of zeros, in its place in space."""
    before = [(side - n) // 2 for n in scan.shape]
    after = [side - n - b for n, b in zip(scan.shape, before, strict=True)]
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    data = np.pad(scan.data, list(zip(before, after, strict=True)))
    return Volume(data, affine, f"{scan.name}_{side}")


def refined_shape(shape: Shape3, factor: float) -> Shape3:
    """Return the shape with about ``factor`` times as many voxels, each side at least 1."""
    return three(max(1, round(n * factor ** (1 / 3))) for n in shape)


def refined(scan: Volume, factor: float) -> Volume:
    """Return the same head with about ``factor`` times as many voxels, finer or coarser."""
    shape = refined_shape(scan.shape, factor)
    scale = np.divide(scan.shape, shape)
    offset = (scale - 1) / 2  # the outer faces of both grids coincide
    index_map = IndexMap((0, 1, 2), triple(scale), triple(offset))
    data = resample(scan.data, index_map, shape)
    return Volume(data, scan.affine @ index_map.matrix, scan.name)
