"""Small folders laid out as real data sets are, with cases of the shipped splits."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from ddmseg.imaging.datasets.splits import read_split


def write_hippocampus(root: Path, cases: dict[str, int]) -> dict[str, list[str]]:
    """Write crops of two blocks; return the names by split.

    Args:
        root: folder of the data sets.
        cases: how many of each split.
    """
    split = read_split("hippocampus")
    generator = np.random.default_rng(0)
    written = {}
    for kind, count in cases.items():
        written[kind] = sorted(name for name, where in split.items() if where == kind)[:count]
        for name in written[kind]:
            labels = np.zeros((14, 17, 13), np.uint8)
            labels[4:10, 3:9, 4:9], labels[4:10, 9:15, 4:9] = 1, 2
            scan = 60.0 * labels + 20 + generator.normal(0, 2, labels.shape)
            _save(root / "hippocampus" / "imagesTr" / f"{name}.nii.gz", scan.astype(np.float32))
            _save(root / "hippocampus" / "labelsTr" / f"{name}.nii.gz", labels)
    return written


def write_ibsr18(root: Path) -> list[str]:
    """Write all cases of the split, the unlabelled ones without labels; return the labelled."""
    split = read_split("ibsr18")
    generator = np.random.default_rng(1)
    for name, fold in split.items():
        labels = np.zeros((20, 6, 18, 1), np.uint8)
        labels[4:16, 1:5, 4:14], labels[6:14, 1:5, 6:12], labels[9:11, 2:4, 8:10] = 2, 3, 1
        scan = np.take([0, 30, 60, 100], labels) + (labels > 0) * generator.normal(
            0, 3, labels.shape
        )
        spacing = np.diag([0.94, 1.5, 0.94, 1])
        _save(root / "ibsr18" / f"{name}.nii.gz", scan.astype(np.float32), spacing)
        if fold != "unlabelled":
            _save(root / "ibsr18" / f"{name}_seg.nii.gz", labels, spacing)
    return sorted(name for name, fold in split.items() if fold != "unlabelled")


def _save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
