"""Writes small DICOM files with a known place in space, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
PATIENT = "Doe^Jane"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ds(values: Any) -> list[str]:
    """Decimal strings, which hold at most 16 characters."""
    return [f"{float(value):.9g}" for value in values]


def scan(shape: tuple[int, int, int] = (5, 4, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 4000, shape).astype(np.uint16)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def affine_of(
    directions: np.ndarray, spacing: Any = (0.9, 1.1, 2.5), origin: Any = (-10.0, 20.0, 30.0)
) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def base_dataset(path: Path, sop_class: str, series: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, "SECRET-7", ""
    dataset.Modality, dataset.Manufacturer = "MR", "TOYS"
    dataset.SeriesNumber, dataset.SeriesDescription = 4, "t1 MPRAGE sag"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    return dataset


def put_pixels(dataset: Dataset, stored: np.ndarray) -> None:
    """Store pixels with axes [frame] row column."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()


def slice_datasets(
    folder: Path, data: np.ndarray, affine: np.ndarray, *, series: str | None = None
) -> list[FileDataset]:
    """One classic data set a slice of ``data`` (i j k), not yet written."""
    uid = series or generate_uid()
    placed = LPS @ affine
    spacing = np.linalg.norm(placed[:3, :3], axis=0)
    row, column = placed[:3, 0] / spacing[0], placed[:3, 1] / spacing[1]
    made = []
    for k in range(data.shape[2]):
        dataset = base_dataset(folder / f"{k:03d}.dcm", MR, uid)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = ds(placed[:3, 3] + k * placed[:3, 2])
        dataset.ImageOrientationPatient = ds((*row, *column))
        dataset.PixelSpacing = ds((spacing[1], spacing[0]))
        dataset.SliceThickness = "99"
        dataset.SpacingBetweenSlices = "77"
        put_pixels(dataset, np.ascontiguousarray(data[:, :, k].T))
        made.append(dataset)
    return made


def save(datasets: list[FileDataset]) -> list[Path]:
    paths = [Path(str(dataset.filename)) for dataset in datasets]
    for dataset, path in zip(datasets, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
    return paths


def write_series(folder: Path, data: np.ndarray, affine: np.ndarray) -> list[Path]:
    return save(slice_datasets(folder, data, affine))


def item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced_dataset(path: Path, data: np.ndarray, affine: np.ndarray) -> FileDataset:
    """The slices of ``data`` in one enhanced file; orientation shared, position for each."""
    slices = slice_datasets(path.parent, data, affine)
    dataset = base_dataset(path, ENHANCED_MR, generate_uid())
    dataset.NumberOfFrames = len(slices)
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=slices[0].ImageOrientationPatient)],
        PixelMeasuresSequence=[item(PixelSpacing=slices[0].PixelSpacing)],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=one.ImagePositionPatient)])
        for one in slices
    ]
    put_pixels(dataset, np.ascontiguousarray(data.T))
    return dataset


def assert_same_world(volume: Any, data: np.ndarray, affine: np.ndarray) -> None:
    """Every voxel of ``data`` must be in ``volume`` at the same place in space."""
    indices = np.indices(data.shape).reshape(3, -1)
    to_volume = np.linalg.inv(volume.affine) @ affine
    places = to_volume[:3, :3] @ indices + to_volume[:3, 3:]
    rounded = np.rint(places).astype(int)
    assert np.abs(places - rounded).max() < 1e-3
    assert volume.data.size == data.size
    np.testing.assert_allclose(volume.data[tuple(rounded)], data.reshape(-1), rtol=1e-6, atol=1e-5)
