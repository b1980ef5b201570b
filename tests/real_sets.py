"""Small folders laid out as real data sets are, with cases of the shipped splits."""

from __future__ import annotations

import gzip
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np

from ddmseg.datasets.case import Case
from ddmseg.datasets.split import read_split, split_by_person


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


def lpba40_labels() -> np.ndarray:
    """A little brain in RAS: first axis to the right, second to the front, third up."""
    labels = np.zeros((12, 14, 10), np.uint8)
    for side, here in ((0, slice(1, 5)), (1, slice(7, 11))):
        labels[here, 10:13, 3:8] = 21 + side  # superior frontal
        labels[here, 7:9, 7:9] = 27 + side  # precentral
        labels[here, 1:3, 5:7] = 63 + side  # middle occipital
        labels[here, 5:7, 4:6] = 165 + side  # hippocampus
    labels[3:9, 2:5, 0:2] = 181
    labels[5:7, 5:7, 0:2] = 182
    return labels


def write_analyze(
    path: Path, data: np.ndarray, spacing: tuple[float, ...], *, packed: bool
) -> None:
    """Write a header and its image, with a fourth axis of one as LONI's files have."""
    image = nibabel.AnalyzeImage(data[..., None], np.diag([*spacing, 1.0]))
    image.header.set_zooms((*spacing, 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.with_name(path.name.removesuffix(".hdr"))
    image.header.set_data_dtype(data.dtype)
    Path(f"{stem}.hdr").write_bytes(image.header.binaryblock)
    raw = data.tobytes(order="F")
    if packed:
        Path(f"{stem}.img.gz").write_bytes(gzip.compress(raw))
    else:
        Path(f"{stem}.img").write_bytes(raw)


def write_lpba40(root: Path, cases: int = 2) -> dict[str, list[str]]:
    """Write so many subjects of each fold in delineation space; return the names by fold.

    The arrays lie as LAS, with voxels of 2 x 2 x 3 mm.
    """
    generator = np.random.default_rng(2)
    split = read_split("lpba40")
    labels = np.kron(lpba40_labels(), np.ones((2, 2, 2), np.uint8))[::-1]
    written: dict[str, list[str]] = {}
    for fold in sorted(set(split.values())):
        written[fold] = sorted(name for name, where in split.items() if where == fold)[:cases]
        for name in written[fold]:
            stem = root / "lpba40/LPBA40/delineation_space" / name / f"{name}.delineation"
            noise = generator.normal(0, 2, labels.shape)
            scan = np.where(labels > 0, 40 + labels % 30 + noise, 0).astype(np.int16)
            write_analyze(Path(f"{stem}.skullstripped.hdr"), scan, (2, 2, 3), packed=True)
            write_analyze(
                Path(f"{stem}.structure.label.hdr"),
                np.ascontiguousarray(labels),
                (2, 2, 3),
                packed=True,
            )
    return written


def write_brats(root: Path, cases: int = 2, *, bare: int = 0) -> dict[str, list[str]]:
    """Write so many cases of each split, of 2021 and of 2023 in turns; return the names.

    Args:
        root: folder of the data sets.
        cases: of each split.
        bare: further ones without a label map, under ``unlabelled``.
    """
    new = [f"BraTS-GLI-{number:05d}-000" for number in range(60)]
    old = [f"BraTS2021_{number:05d}" for number in range(60)]
    names = [name for pair in zip(old, new, strict=True) for name in pair]
    split = split_by_person(
        [Case(n, (), None, n.rsplit("-", 1)[0] if "-" in n else n) for n in names], "brats"
    )
    written = {
        kind: sorted([case.identifier for case in split.by_split[kind]][:cases])
        for kind in ("train", "validation", "test")
    }
    for number, name in enumerate(chain(*written.values())):
        write_brats_case(root, name, seed=number)
    written["unlabelled"] = [f"BraTS2021_9{number:04d}" for number in range(bare)]
    for name in written["unlabelled"]:
        write_brats_case(root, name, labelled=False)
    return written


def write_brats_case(root: Path, name: str, *, seed: int = 0, labelled: bool = True) -> None:
    """Write four contrasts of a ball with a tumour, with the ids of the name's year, as LPS."""
    new = "-" in name
    upper = "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData" if new else "BraTS2021_Training_Data"
    joint, kinds = (
        ("-", ("t1n", "t1c", "t2w", "t2f")) if new else ("_", ("t1", "t1ce", "t2", "flair"))
    )
    generator = np.random.default_rng(seed)
    shape = (24, 28, 20)
    places = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    brain = np.linalg.norm(places, axis=0) < 9
    away = np.linalg.norm(places - np.array([3, 2, 0]).reshape(3, 1, 1, 1), axis=0)
    labels = np.select([away < 1.8, away < 3, away < 4.5], [1, 3 if new else 4, 2], 0)
    if new:
        labels[places[0] < -6] = np.where(brain[places[0] < -6], 4, 0)  # a resection cavity
    folder = root / "brats" / upper / name
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, kind in enumerate(kinds):
        bright = 100 + 40 * (labels == (number % 3) + 1) + 10 * number
        scan = np.where(brain, bright + generator.normal(0, 3, shape), 0).astype(np.int16)
        _save(folder / f"{name}{joint}{kind}.nii.gz", scan, affine)
    if labelled:
        _save(folder / f"{name}{joint}seg.nii.gz", labels.astype(np.uint8), affine)


def _save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
