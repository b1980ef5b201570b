"""Heads simple enough to make in a test, as files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

PROMISED = [
    "_desc-discrepancy_map.nii.gz",
    "_desc-uncertainty_map.nii.gz",
    "_dseg.json",
    "_dseg.nii.gz",
    "_dseg.tsv",
    "_qc.json",
    "_receipt.json",
    "_report.html",
    "_volumes.json",
    "_volumes.tsv",
]
"""Ends of the names of what a run writes for each scan."""


def head_voxels(shape: tuple[int, int, int] = (26, 30, 22), seed: int = 0) -> np.ndarray:
    """A bright ball with a dark middle and a bright spot on one side, in noise."""
    centre = (np.array(shape) - 1) / 2
    places = np.moveaxis(np.indices(shape), 0, -1) - centre
    radius = np.linalg.norm(places / (0.4 * np.array(shape)), axis=-1)
    spot = np.linalg.norm(places - 0.2 * np.array(shape), axis=-1)
    head = np.where(radius < 1, 100.0, 0.0) - np.where(radius < 0.3, 60.0, 0.0)
    head += np.where(spot < 3, 50.0, 0.0)
    return (head + np.random.default_rng(seed).normal(0, 3, shape)).astype(np.float32)


def head_affine(spacing_mm: float = 6.0) -> np.ndarray:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-70, -80, -60)
    return affine


def write_head(path: Path, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(head_voxels(seed=seed), head_affine()).to_filename(path)
    return path


def everything_in(folder: Path) -> list[str]:
    """Every file and folder below, hidden ones included; nothing where there is no folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def two_sided_brain() -> np.ndarray:
    """Labels of an ellipsoid of two equal halves, six structures each, in voxels of 2 mm.

    The left half comes first along the first axis; each has a ventricle of 10 mm.
    """
    i, j, k = np.indices((60, 60, 60)) - 29.5
    inside = (i / 26) ** 2 + (j / 28) ** 2 + (k / 24) ** 2
    labels = np.where(inside <= 1, np.where(inside <= 0.7, 2, 3), 0)
    for index, low, high in ((4, -6, 0), (10, 2, 6), (11, 8, 12), (12, -14, -10)):
        beside = (np.abs(np.abs(i) - 7) <= 2.5) & (np.abs(j) <= 4)
        labels[beside & (k >= low) & (k < high)] = index
    for index, other in {2: 41, 3: 42, 4: 43, 10: 49, 11: 50, 12: 51}.items():
        labels[(labels == index) & (i > 0)] = other
    return labels.astype(np.int32)
