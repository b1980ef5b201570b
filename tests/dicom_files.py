"""Writes small DICOM files with a known place in space, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
PATIENT = "Doe^Jane"
STUDY, FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
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
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = STUDY, FRAME_OF_REFERENCE
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


def read_seg(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Voxels and affine of each structure of a DICOM SEG, by label, from pydicom alone.

    Each frame is put where its own plane position says, so that nothing of the writer's
    idea of order or direction is believed.
    """
    seg = pydicom.dcmread(path)
    pixels = np.atleast_3d(seg.pixel_array.T).T
    shared = seg.SharedFunctionalGroupsSequence[0]
    direction = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    measures = shared.PixelMeasuresSequence[0]
    row, column = direction[:3], direction[3:]
    labelmap = seg.SegmentationType == "LABELMAP"
    affine = np.eye(4)
    affine[:3, 0] = row * float(measures.PixelSpacing[1])
    affine[:3, 1] = column * float(measures.PixelSpacing[0])
    affine[:3, 2] = np.cross(row, column) * float(measures.SpacingBetweenSlices)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    groups = seg.PerFrameFunctionalGroupsSequence
    for segment in seg.SegmentSequence:
        number = segment.SegmentNumber
        slices, places = [], []
        for frame, group in zip(pixels, groups, strict=True):
            if labelmap or number == _segment_of(group, shared):
                slices.append((frame == number if labelmap else frame != 0).T)
                places.append(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float))
        if slices:
            found[segment.SegmentLabel] = _stacked(slices, places, affine)
    return found


def _stacked(
    slices: list[np.ndarray], places: list[np.ndarray], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slices in one array, empty ones between them filled in; and its affine to RAS mm."""
    first = min(places, key=lambda place: place @ affine[:3, 2])
    own = affine.copy()
    own[:3, 3] = first
    offsets = np.linalg.solve(own[:3, :3], np.array(places).T - first[:, None])
    steps = np.rint(offsets[2]).astype(int)
    assert np.abs(offsets - np.array([0, 0, 1])[:, None] * steps).max() < 1e-3
    volume = np.zeros((*slices[0].shape, steps.max() + 1), bool)
    for step, one in zip(steps, slices, strict=True):
        volume[:, :, step] = one
    return volume, LPS @ own


def _segment_of(group: Dataset, shared: Dataset) -> int:
    holder = group if "SegmentIdentificationSequence" in group else shared
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def world_points(mask: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    """The places of a mask's voxels in RAS mm, rounded to a hundredth."""
    points = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    # adding 0 turns -0.0 into 0.0
    return {tuple(point) for point in (points.round(2) + 0.0).tolist()}


def world_dice(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Dice of two masks by where their voxels lie, whatever their grids."""
    here, there = world_points(*one), world_points(*other)
    return 2 * len(here & there) / (len(here) + len(there))


def assert_same_world(volume: Any, data: np.ndarray, affine: np.ndarray) -> None:
    """Every voxel of ``data`` must be in ``volume`` at the same place in space."""
    indices = np.indices(data.shape).reshape(3, -1)
    to_volume = np.linalg.inv(volume.affine) @ affine
    places = to_volume[:3, :3] @ indices + to_volume[:3, 3:]
    rounded = np.rint(places).astype(int)
    assert np.abs(places - rounded).max() < 1e-3
    assert volume.data.size == data.size
    np.testing.assert_allclose(volume.data[tuple(rounded)], data.reshape(-1), rtol=1e-6, atol=1e-5)
