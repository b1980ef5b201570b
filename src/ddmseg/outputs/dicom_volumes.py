"""Volumes out as a DICOM Structured Report that refers to the segments of the DICOM SEG.

A Comprehensive 3D SR by the template of measurement reports. The same segmentation and DICOM SEG
give the same bytes: UIDs, date and time follow the SEG's.

Source: DICOM PS3.16, TID 1500 (Measurement Report); PS3.3, A.35.13 (Comprehensive 3D SR).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg.errors import ScanError, optional
from ddmseg.imaging.dicom.file import quiet, read_dataset
from ddmseg.imaging.dicom.reference import (
    MAKER,
    check_reference,
    lasting_uid,
    made_by,
    save_derived,
    software_version,
    stand_in,
)
from ddmseg.imaging.dicom.seg import Code, coding_schemes, concept
from ddmseg.imaging.dicom.series import Series
from ddmseg.messages import NOTICE
from ddmseg.outputs.dicom_measurements import MeasurementGroups
from ddmseg.quality.segmentation import Segmentation

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER_OFFSET = 40_000
"""Added to the source's number; labels, report and corrected labels are below."""
SERIES_DESCRIPTION = f"{MAKER} volumes, {NOTICE}"
_PROCEDURES = {"MR": Code("24590-2", "LN", "Brain MRI"), "CT": Code("24725-4", "LN", "Head CT")}
_DEVICE = Code("121007", "DCM", "Device")
_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_COMMENT = Code("121106", "DCM", "Comment")
_ENGLISH = Code("en", "RFC5646", "English")

_OF_IMAGES = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_OF_LABELS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SegmentSequence")
_TIMES = ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime")


def write_dicom_volumes(
    path: str | os.PathLike[str],
    segmentation: Segmentation,
    series: Series,
    *,
    labels: Path,
    model: str = "unnamed",
    weights_sha256: str = "unknown",
) -> None:
    """Write volumes in ml and verdict as a Comprehensive 3D SR, in the series' study.

    ``labels`` is the DICOM SEG of the same segmentation.

    Raises:
        ScanError: when the series cannot be referred to, or the DICOM SEG cannot be read.
        OutputError: when the file cannot be written.
        MissingExtraError: when highdicom is not installed.
    """
    highdicom = optional("highdicom", "dicom")
    check_reference(series, placed=False)
    seg = read_dataset(labels, (*_OF_LABELS, *_TIMES), told=labels.name)
    if any(keyword not in seg for keyword in (*_OF_LABELS, *_TIMES)):
        raise ScanError(f"{labels.name}: no DICOM SEG of ddmseg; segment the scan again")
    with quiet():
        dataset = _document(highdicom, segmentation, series, seg, model, weights_sha256)
        _set_times(dataset, seg)
        save_derived(dataset, path, series, without=_OF_IMAGES)


def _set_times(dataset: Dataset, seg: Dataset) -> None:
    """Set date and time of the labels, so that the same is the same again."""
    for keyword in _TIMES:
        setattr(dataset, keyword, seg[keyword].value)
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = f"{seg.InstanceCreationDate}{seg.InstanceCreationTime}"


def _document(
    highdicom: Any,
    segmentation: Segmentation,
    series: Series,
    seg: Dataset,
    model: str,
    weights_sha256: str,
) -> Dataset:
    groups = MeasurementGroups(highdicom, series, seg, model)
    content = highdicom.sr.MeasurementReport(
        observation_context=_observer(highdicom, model, weights_sha256),
        procedure_reported=concept(_PROCEDURES.get(series.headers[0].modality, _PROCEDURES["MR"])),
        imaging_measurements=groups.all(segmentation),
        title=concept(_TITLE),
        language_of_content_item_and_descendants=(
            highdicom.sr.LanguageOfContentItemAndDescendants(concept(_ENGLISH))
        ),
    )
    content[0].ContentSequence.append(_comments(highdicom, segmentation))
    dataset: Dataset = highdicom.sr.Comprehensive3DSR(
        evidence=[stand_in(series, *(str(seg[keyword].value) for keyword in _OF_LABELS[:3]))]
        + [stand_in(series, one.image_class, one.image_uid) for one in series.headers],
        content=content[0],
        series_instance_uid=lasting_uid(MAKER, "series of volumes", str(seg.SOPInstanceUID)),
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=lasting_uid(MAKER, "volumes", str(seg.SOPInstanceUID)),
        device_serial_number=weights_sha256[:64],
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=coding_schemes(),
        **made_by(series, SERIES_NUMBER_OFFSET, model),
    )
    return dataset


def _observer(highdicom: Any, model: str, weights_sha256: str) -> Any:
    """The device that measured; one with other weights is another device."""
    return highdicom.sr.ObservationContext(
        observer_device_context=highdicom.sr.ObserverContext(
            observer_type=concept(_DEVICE),
            observer_identifying_attributes=highdicom.sr.DeviceObserverIdentifyingAttributes(
                uid=lasting_uid(MAKER, "device", software_version(), model, weights_sha256),
                name=MAKER,
                manufacturer_name=MAKER,
                model_name=f"{MAKER} {model}",
                serial_number=weights_sha256,
            ),
        )
    )


def _comments(highdicom: Any, segmentation: Segmentation) -> Any:
    """What has no code: notice and verdict, and what the ranges of uncertainty mean."""
    sr, quality = highdicom.sr, segmentation.quality
    contains = sr.RelationshipTypeValues.CONTAINS
    lines = [
        f"{NOTICE.capitalize()}.",
        f"Verdict: {quality.verdict}; expected Dice {quality.expected_dice:.2f}",
        *quality.reasons,
        "The ranges of uncertainty end an interval meant to hold the true volume in 95% of scans",
        *(f"{name} was not measured: {why}" for name, why in segmentation.not_measured.items()),
    ]
    container = sr.ContainerContentItem(name=concept(_EVALUATIONS), relationship_type=contains)
    container.ContentSequence = sr.ContentSequence(
        sr.TextContentItem(
            name=concept(_COMMENT),
            # the source's character set may know ASCII alone
            value=line.encode("ascii", "replace").decode("ascii"),
            relationship_type=contains,
        )
        for line in lines
    )
    return container
