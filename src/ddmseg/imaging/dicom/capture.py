"""A picture out as DICOM Secondary Capture, in the study of the series it shows.

Source: DICOM PS3.3, A.8.1 (Secondary Capture Image), C.8.6 (its modules).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import optional
from ddmseg.imaging.dicom import reference
from ddmseg.imaging.dicom.file import EXPLICIT_LITTLE, quiet
from ddmseg.imaging.dicom.reference import MAKER, software_version
from ddmseg.imaging.dicom.series import Series
from ddmseg.messages import NOTICE

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER_OFFSET = 20_000  # added to the source's number; that of the labels is between
SERIES_DESCRIPTION = f"{MAKER} report, {NOTICE}"


def write_capture(
    path: str | os.PathLike[str],
    picture: NDArray[np.uint8],
    series: Series,
    *,
    comments: str,
    model: str = "unnamed",
) -> None:
    """Write a colour picture that names no patient as Secondary Capture Image.

    Patient and study are taken over from the ``series`` it shows; ``comments`` are what it says, in
    words that a viewer can list.
    """
    highdicom = optional("highdicom", "dicom")
    reference.check_reference(series, placed=False)
    with quiet():
        dataset: Dataset = highdicom.sc.SCImage(
            pixel_array=np.ascontiguousarray(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=series.headers[0].study_uid,
            series_instance_uid=reference.new_uid(),
            sop_instance_uid=reference.new_uid(),
            series_description=SERIES_DESCRIPTION,
            patient_birth_date="",
            transfer_syntax_uid=EXPLICIT_LITTLE,
            **reference.made_by(series, SERIES_NUMBER_OFFSET, model),
        )
        # slices of three planes side by side have no orientation in common
        dataset.PatientOrientation = None
        # by the standard's meaning: nothing in the picture tells who or when
        dataset.BurnedInAnnotation = "NO"
        dataset.ImageComments = comments
        dataset.DerivationDescription = f"Drawn by {MAKER} {software_version()}; {NOTICE}"
        dataset.SourceImageSequence = reference.source_items(series)
        dataset.BodyPartExamined = "BRAIN"
        reference.save_derived(dataset, path, series)
