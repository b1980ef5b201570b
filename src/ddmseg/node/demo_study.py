"""``python -m ddmseg.node.demo_study DIR``: the demo scan as a DICOM study.

Who tries the node out needs a study to send, and should need nobody's scan for it. This is
the Colin 27 average that comes with the package, as one classic MR image a slice.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.atomic import atomic_write
from ddmseg.errors import DdmsegError, UsageError, optional
from ddmseg.imaging.nifti import read_volume
from ddmseg.messages import say_error

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SOURCE = "ddmseg demo scan"
"""Seed of the UIDs: made again, the study is the same one, and nothing is done twice with it."""
_UNKNOWN = (
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "Laterality", "PositionReferenceIndicator", "ScanOptions",
    "EchoTime", "EchoTrainLength", "RepetitionTime", "InversionTime",
)  # fmt: skip


def write_demo_study(folder: Path) -> list[Path]:
    """Write the demo scan as DICOM files and return them in the order of the slices.

    The folder is made when it is missing; UsageError when it is not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already; name a new folder for the study")
    optional("pydicom", "dicom")
    scan = read_volume(str(resources.files("ddmseg") / "demo" / "colin27_t1.nii.gz"))
    affine = _RAS_TO_LPS @ scan.affine
    voxels = np.rint(scan.data).astype(np.uint16)
    written = []
    for k in range(voxels.shape[2]):
        path = folder / f"{k + 1:03d}.dcm"
        with atomic_write(path, durable=False) as partial:
            _slice(voxels[:, :, k], affine, k).save_as(partial, enforce_file_format=True)
        written.append(path)
    return written


def _slice(pixels: NDArray[np.uint16], affine: NDArray[np.float64], k: int) -> Any:
    """One MR image; of what is no pixel or place, what nobody knows stays empty.

    Source: DICOM PS3.3, A.4 (MR Image IOD), C.7.6.2 (image plane), C.7.6.3 (pixels).
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    def uid(what: str) -> str:
        return generate_uid(entropy_srcs=[_SOURCE, what])

    dataset: Any = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid(f"image {k}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.FrameOfReferenceUID = uid("frame of reference")
    dataset.PatientName, dataset.PatientID = "Demo^Colin 27 average", "COLIN27"
    dataset.Modality, dataset.Manufacturer = "MR", ""
    dataset.ImageType = ["DERIVED", "PRIMARY", "M"]
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, k + 1
    dataset.StudyDescription, dataset.SeriesDescription = "ddmseg demo", "T1 average of 27"
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    dataset.MRAcquisitionType = "3D"
    for unknown in _UNKNOWN:
        setattr(dataset, unknown, None)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    dataset.ImagePositionPatient = [*(affine[:3, 3] + k * affine[:3, 2])]
    dataset.ImageOrientationPatient = [*directions[:, 0], *directions[:, 1]]
    # rows lie apart along j, columns along i
    dataset.PixelSpacing = [spacing[1], spacing[0]]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = spacing[2]
    dataset.set_pixel_data(pixels.T, "MONOCHROME2", 16, generate_instance_uid=False)
    return dataset


def main(words: Sequence[str]) -> int:
    """Write the study into the folder that is named; return the exit code."""
    try:
        if len(words) != 1:
            raise UsageError("give one folder, such as: demo_study study")
        written = write_demo_study(Path(words[0]))
    except DdmsegError as error:
        say_error(error)
        return error.exit_code
    print(f"{len(written)} MR images written to {words[0]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
