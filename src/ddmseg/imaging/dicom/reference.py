"""What a new DICOM object takes over from the series that it was made from.

Patient and study go from file to file and nowhere else: they are read only when an object is
written, never kept, checked, told or logged.

Source: DICOM PS3.3, C.7.1.1 (Patient), C.7.2.1 (General Study), C.12.1.3.1 (derived images of
lossily compressed ones).
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ddmseg.atomic import atomic_write
from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.file import read_dataset, refused
from ddmseg.imaging.dicom.header import Frame
from ddmseg.imaging.dicom.series import Series

if TYPE_CHECKING:
    from pydicom import Dataset

TAKEN_OVER = (
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
"""Elements of patient, study and image history that are copied as they are."""
MAKER = "ddmseg"
_INSTEAD = "give the scanner's own series, or convert it to NIfTI"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64


def software_version() -> str:
    """Return the version of ddmseg, whether it is installed or run from its source."""
    # the package is loaded, since this is a part of it; importing it would point upwards
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def new_uid() -> str:
    """Return a UID that nothing else has. Source: DICOM PS3.5, B.2 (UUID derived UID)."""
    return f"2.25.{uuid.uuid4().int}"


def lasting_uid(*words: str) -> str:
    """Return a UID that is the same for the same words, and for no others."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(words)).int}"


def check_reference(series: Series, *, placed: bool) -> None:
    """Check that an object can refer to the images of a series, and copy what it takes over.

    UIDs that are absent or shared, as careless anonymisers leave them, and damaged elements of
    patient or study are refused. ``placed``: the object lies in space as the source does.
    """
    from pydicom import Dataset

    headers = series.headers
    if not all(h.study_uid and h.image_uid and h.image_class for h in headers) or not series.uid:
        raise _cannot(series, "UIDs are missing from its files")
    frames_of_reference = {header.frame_of_reference for header in headers if placed}
    uids = {uid for h in headers for uid in (h.study_uid, h.image_uid, h.image_class)}
    uids |= {series.uid, *frames_of_reference} - {""}
    if not all(_UID.fullmatch(uid) and len(uid) <= _LONGEST_UID for uid in uids):
        raise _cannot(series, "its files hold UIDs that are none, or several for one")
    if len({header.image_uid for header in headers}) < len(headers):
        raise _cannot(series, "several of its files share one UID")
    if len({header.study_uid for header in headers}) > 1:
        raise _cannot(series, "its files name several studies")
    if placed and (len(frames_of_reference) > 1 or not headers[0].frame_of_reference):
        raise _cannot(series, "its files name no common Frame of Reference UID")
    rehearsal = Dataset()
    take_over(series, rehearsal)
    with refused(series.name, "copying its patient and study", _INSTEAD):
        rehearsal.save_as(BytesIO(), implicit_vr=False, little_endian=True)


def _cannot(series: Series, reason: str) -> ScanError:
    return ScanError(
        f"{series.name}: {reason}, so a DICOM result cannot refer to them; give the scanner's own "
        "series, or pass --dicom-seg none"
    )


def take_over(series: Series, target: Dataset) -> None:
    """Give a new object the patient, study and image history that its source has."""
    source = read_dataset(series.headers[0].path, TAKEN_OVER, told=series.name)
    # values that break the standard are passed on as they are, those of no kind cannot be
    with refused(series.name, "copying its patient and study", _INSTEAD):
        for keyword in TAKEN_OVER:
            if keyword in source:
                target[keyword] = source[keyword]


def save_derived(
    dataset: Dataset, path: str | os.PathLike[str], series: Series, *, without: tuple[str, ...] = ()
) -> None:
    """Write an object of ours with what it takes over from its source, some elements left out."""
    take_over(series, dataset)
    for keyword in without:
        dataset.pop(keyword, None)
    with atomic_write(path, private=True) as partial:  # it names the patient
        dataset.save_as(partial, enforce_file_format=True)


def made_by(series: Series, offset: int, model: str) -> dict[str, Any]:
    """Return what each of our objects says of its series and its maker, as highdicom takes it.

    ``offset`` is added to the source's number of its series.
    """
    return {
        "series_number": offset + max(series.number or 0, 0),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": f"{MAKER} {model}"[:64],
        "software_versions": software_version(),
    }


def stand_in(series: Series, image_class: str, image_uid: str, series_uid: str = "") -> Dataset:
    """Return what highdicom needs of an object that is referred to, without the patient."""
    from pydicom import Dataset

    one = Dataset()
    for keyword in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
        *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    ):
        setattr(one, keyword, "")
    one.SOPClassUID, one.SOPInstanceUID = image_class, image_uid
    one.StudyInstanceUID = series.headers[0].study_uid
    one.SeriesInstanceUID = series_uid or series.uid
    return one


def source_items(series: Series) -> list[Dataset]:
    """Return one reference an image file, for a Source Image Sequence."""
    return [_item(header.image_class, header.image_uid) for header in series.headers]


def frame_references(series: Series, frames: tuple[Frame, ...]) -> Iterator[Dataset]:
    """Yield a reference to each slice: its file and, where that holds many, its number."""
    headers = {header.path: header for header in series.headers}
    for frame in frames:
        header = headers[frame.path]
        item = _item(header.image_class, header.image_uid)
        if header.frame_count > 1:
            item.ReferencedFrameNumber = frame.index + 1
        yield item


def _item(image_class: str, image_uid: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image_class, image_uid
    return item
