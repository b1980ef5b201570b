"""Label maps out as DICOM SEG: on the source's own slices, in codes, referring to it.

highdicom writes the object. It takes either classic slices or one enhanced file, and
wants elements that exported series often lack; so it is given a stand-in for each
slice that carries exactly the place that was read, and the references are put in
afterwards. That makes both kinds of source one case.

Source: DICOM PS3.3, C.8.20 (Segmentation Image and its segments), A.51 and A.86.

``protocols/dicom_codes.tsv`` takes SNOMED CT and DICOM codes from the context groups of the
standard (PS3.16, CID 7140, 7153, 7150 and 244); what has no code there gets one of our own scheme,
with the coded structure that it is a part of as its region.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import ScanError, optional
from ddmseg.imaging.dicom.file import quiet
from ddmseg.imaging.dicom.geometry import Stack, stack_frames
from ddmseg.imaging.dicom.reference import (
    MAKER,
    check_reference,
    frame_references,
    lasting_uid,
    made_by,
    new_uid,
    save_derived,
    software_version,
    source_items,
    stand_in,
)
from ddmseg.imaging.dicom.series import Series
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import OWN_IDS, classes_of, protocol_rows, structure
from ddmseg.imaging.volume import LabelMap
from ddmseg.messages import NOTICE

if TYPE_CHECKING:
    from pydicom import Dataset


PRIVATE_SCHEME = "99DDMSEG"
"""Designator of codes that are ours; the standard reserves names that begin with 99."""


@dataclass(frozen=True)
class Code:
    """A coded concept: value, designator of its scheme, and meaning in words."""

    value: str
    scheme: str
    meaning: str


CATEGORIES = {
    "structure": Code("91723000", "SCT", "Anatomical Structure"),
    "substance": Code("91720002", "SCT", "Body Substance"),
    "abnormal": Code("49755003", "SCT", "Morphologically Abnormal Structure"),
}
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


@dataclass(frozen=True)
class CodedStructure:
    """A structure in codes.

    Attributes:
        side: left or right; None on the midline and where the id names no side.
        region: what it is a part of; None where the type says it all.
    """

    category: Code
    type: Code
    side: Code | None
    region: Code | None


def coded_structure(index: int) -> CodedStructure:
    """Return the codes of a label id; one of our own where the table has none.

    >>> coded_structure(17).type.meaning, coded_structure(17).side.meaning
    ('Hippocampus', 'Left')

    Raises:
        UsageError: when the id is unknown.
    """
    found = _table().get(index)
    if found is not None:
        return found
    whose = "FS" if index < OWN_IDS else "OWN"
    own = Code(f"{whose}{index}", PRIVATE_SCHEME, structure(index).name)
    return CodedStructure(CATEGORIES["structure"], own, None, None)


@cache
def _table() -> dict[int, CodedStructure]:
    return {int(row["index"]): _coded(row) for row in protocol_rows("dicom_codes")}


def _coded(row: dict[str, str]) -> CodedStructure:
    region = Code(row["region"], "SCT", row["region_meaning"]) if row["region"] else None
    return CodedStructure(
        CATEGORIES[row["category"]],
        Code(row["value"], row["scheme"], row["meaning"]),
        SIDES.get(row["side"]),
        region,
    )


SegForm = Literal["binary", "labelmap"]

SERIES_NUMBER_OFFSET = 10_000
"""Added to the source's number; scanners stay below."""
SERIES_DESCRIPTION = f"{MAKER} labels, {NOTICE}"
CONTENT_LABEL = "BRAIN_STRUCTURES"
CONTENT_DESCRIPTION = f"Brain structures; {NOTICE}"

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_RLE = "1.2.840.10008.1.2.5"
_UNCOMPRESSED = "1.2.840.10008.1.2.1"


def write_dicom_seg(
    path: str | os.PathLike[str],
    labels: LabelMap,
    series: Series,
    *,
    form: SegForm = "binary",
    model: str = "unnamed",
    weights_sha256: str = "unknown",
) -> None:
    """Write a label map that was made from a series as DICOM SEG.

    ``binary`` has one segment a structure, numbered from 1, each with slices of its
    own; every viewer and archive that knows segmentations reads it, so it is the
    default. ``labelmap`` (2024) stores each slice once, with FreeSurfer ids as values
    and segment numbers: some thirty times fewer slices, for software that knows it.

    Raises:
        ScanError: when the labels are empty or on another grid, or when the series
            cannot be referred to.
        OutputError: when the file cannot be written.
        MissingExtraError: when highdicom is not installed.
    """
    highdicom = optional("highdicom", "dicom")
    check_reference(series, placed=True)
    stack = stack_frames(series.frames, series.name)
    if not Grid(labels.shape, labels.affine).same_as(Grid(series.shape, stack.affine)):
        raise ScanError(
            f"{series.name}: the labels are not on its grid of {_shown(series.shape)} voxels; "
            "give the labels that were made from this series"
        )
    present = [int(index) for index in np.unique(labels.data) if index != 0]
    if not present:
        raise ScanError(f"{series.name}: no structure in the labels; a DICOM SEG needs one")
    with quiet():
        dataset = _segmentation(
            highdicom, labels.data, present, series, stack, form, model, weights_sha256
        )
        _put_references(dataset, series, stack)
        dataset.BodyPartExamined = "BRAIN"
        save_derived(dataset, path, series)


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)


def _segmentation(
    highdicom: Any,
    labels: NDArray[np.integer[Any]],
    present: Sequence[int],
    series: Series,
    stack: Stack,
    form: SegForm,
    model: str,
    weights_sha256: str,
) -> Dataset:
    """The object, with stand-ins where it refers to the source."""
    numbers = present if form == "labelmap" else range(1, len(present) + 1)
    if form == "binary":
        labels = classes_of(labels, (0, *present))
    kind = np.uint8 if max(numbers) < 256 else np.uint16
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MAKER,
        family=concept(ARTIFICIAL_INTELLIGENCE),
        version=software_version(),
        source=MAKER,
        parameters={"model": model},
    )
    dataset: Dataset = highdicom.seg.Segmentation(
        source_images=_stand_ins(series, stack),
        # axes frame, row, column: the frames in the order of the stack
        pixel_array=np.ascontiguousarray(labels.T, dtype=kind),
        segmentation_type=form.upper(),
        segment_descriptions=[
            _description(highdicom, number, index, algorithm, series)
            for number, index in zip(numbers, present, strict=True)
        ],
        series_instance_uid=new_uid(),
        sop_instance_uid=new_uid(),
        device_serial_number=weights_sha256[:64],
        content_label=CONTENT_LABEL,
        content_description=CONTENT_DESCRIPTION,
        content_qualification="RESEARCH",
        series_description=SERIES_DESCRIPTION,
        # bits pack eight voxels a byte already, and the standard compresses no others
        transfer_syntax_uid=_RLE if form == "labelmap" else _UNCOMPRESSED,
        coding_schemes=coding_schemes(),
        **made_by(series, SERIES_NUMBER_OFFSET, model),
    )
    return dataset


def _stand_ins(series: Series, stack: Stack) -> list[Dataset]:
    """A classic MR slice for each slice of the stack: its place, and no patient.

    highdicom logs names of patients that break the standard; here it never sees one.
    """
    from pydicom.valuerep import format_number_as_ds

    def decimals(values: Sequence[float] | None) -> list[str]:
        return [format_number_as_ds(value) for value in values or ()]

    header, first = series.headers[0], stack.frames[0]
    between_mm = round(float(np.linalg.norm(stack.affine[:3, 2])), 6)
    stand_ins = []
    for place, frame in enumerate(stack.frames):
        one = stand_in(series, _MR_IMAGE, _stand_in_uid(place))
        one.FrameOfReferenceUID, one.Modality = header.frame_of_reference, "MR"
        one.Rows, one.Columns = header.rows, header.columns
        one.ImagePositionPatient = decimals(frame.position)
        # of one slice for all: the others may differ by rounding, and one is wanted
        one.ImageOrientationPatient = decimals(first.orientation)
        one.PixelSpacing = decimals(first.pixel_spacing_mm)
        one.SliceThickness = one.SpacingBetweenSlices = format_number_as_ds(between_mm)
        stand_ins.append(one)
    return stand_ins


def _stand_in_uid(place: int) -> str:
    return f"2.25.{place + 1}"


def _description(
    highdicom: Any, number: int, index: int, algorithm: Any, series: Series
) -> Dataset:
    coded, named = coded_structure(index), structure(index)
    description: Dataset = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=named.name,
        segmented_property_category=concept(coded.category),
        segmented_property_type=concept(coded.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(series, index),
        tracking_id=tracking_name(index),
        anatomic_regions=[concept(coded.region)] if coded.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*named.colour),
    )
    description.SegmentDescription = f"FreeSurfer {index}"
    if coded.side is not None:
        (kind,) = description.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(coded.side)]
    return description


def tracking_uid(series: Series, index: int) -> str:
    """Return the mark of one structure of one scan, which it keeps when it is segmented again."""
    return lasting_uid(MAKER, series.uid, str(index))


def tracking_name(index: int) -> str:
    """Return what a person calls that mark, such as ``FreeSurfer 17 Left-Hippocampus``."""
    return f"FreeSurfer {index} {structure(index).name}"


def coding_schemes() -> list[Any]:
    """Return what an object says about the scheme of our own codes."""
    return [
        optional("highdicom", "dicom").coding_schemes.CodingSchemeIdentificationItem(
            PRIVATE_SCHEME, name="ddmseg structures", responsible_organization=MAKER
        )
    ]


def concept(code: Code) -> Any:
    """Return a code as highdicom takes it."""
    return optional("highdicom.sr", "dicom").CodedConcept(code.value, code.scheme, code.meaning)


def _put_references(dataset: Dataset, series: Series, stack: Stack) -> None:
    """Put the source's own files and frame numbers where the stand-ins are named."""
    from pydicom import Dataset

    real = dict(enumerate(frame_references(series, stack.frames)))
    by_stand_in = {_stand_in_uid(place): item for place, item in real.items()}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # segments share the items of a slice, so it may have been done already
                found = by_stand_in.get(item.ReferencedSOPInstanceUID)
                if found is not None:
                    item.update(found)
    dataset.SourceImageSequence = source_items(series)
    whole = Dataset()
    whole.SeriesInstanceUID = series.uid
    whole.ReferencedInstanceSequence = source_items(series)
    dataset.ReferencedSeriesSequence = [whole]
