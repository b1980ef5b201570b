"""Label maps out as DICOM SEG: on the source's own slices, in codes, referring to it.

highdicom writes the object. It takes either classic slices or one enhanced file, and wants elements
that exported series often lack; so it is given a stand-in for each slice that carries exactly the
place that was read, and the references are put in afterwards. That makes both kinds of source one
case.

Codes (``protocols/dicom_codes.tsv``) are SNOMED CT's and DICOM's; what has none there gets one of
our own scheme, with the coded structure that it is a part of as its region.

Source: DICOM PS3.3, C.8.20 (Segmentation), A.51 and A.86; PS3.16, CID 7140, 7153, 7150 and 244.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ddmseg.errors import ScanError, optional
from ddmseg.imaging.dicom import reference
from ddmseg.imaging.dicom.file import EXPLICIT_LITTLE, quiet
from ddmseg.imaging.dicom.geometry import Stack, stack_frames
from ddmseg.imaging.dicom.pixels import RLE
from ddmseg.imaging.dicom.reference import MAKER, software_version
from ddmseg.imaging.dicom.series import Series
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import OWN_IDS, classes_of, protocol_rows, structure
from ddmseg.imaging.volume import LabelMap
from ddmseg.messages import NOTICE

if TYPE_CHECKING:
    from pydicom import Dataset


PRIVATE_SCHEME = "99DDMSEG"  # of our own codes; the standard reserves names that begin with 99


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
    """A structure in codes; ``side`` is None on the midline, ``region`` where the type says all."""

    category: Code
    type: Code
    side: Code | None
    region: Code | None


def coded_structure(index: int) -> CodedStructure:
    """Return the codes of a label id; one of our own where the table has none.

    >>> coded_structure(17).type.meaning, coded_structure(17).side.meaning
    ('Hippocampus', 'Left')
    """
    row = _table().get(index)
    if row is None:
        whose = "FS" if index < OWN_IDS else "OWN"
        own = Code(f"{whose}{index}", PRIVATE_SCHEME, structure(index).name)
        return CodedStructure(CATEGORIES["structure"], own, None, None)
    return CodedStructure(
        CATEGORIES[row["category"]],
        Code(row["value"], row["scheme"], row["meaning"]),
        SIDES.get(row["side"]),
        Code(row["region"], "SCT", row["region_meaning"]) if row["region"] else None,
    )


@cache
def _table() -> dict[int, dict[str, str]]:
    return {int(row["index"]): row for row in protocol_rows("dicom_codes")}


SegForm = Literal["binary", "labelmap"]
SERIES_NUMBER_OFFSET = 10_000  # added to the source's number; scanners stay below
SERIES_DESCRIPTION = f"{MAKER} labels, {NOTICE}"
CONTENT_LABEL = "BRAIN_STRUCTURES"
CONTENT_DESCRIPTION = f"Brain structures; {NOTICE}"
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


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

    ``binary`` has one segment a structure, numbered from 1, each with slices of its own; every
    viewer and archive that knows segmentations reads it, so it is the default. ``labelmap`` (2024)
    stores each slice once, with FreeSurfer ids as values and segment numbers: some thirty times
    fewer slices, for software that knows it.

    Raises:
        ScanError: when labels are empty or on another grid, or the series cannot be referred to.
        OutputError: when the file cannot be written.
    """
    highdicom = optional("highdicom", "dicom")
    reference.check_reference(series, placed=True)
    stack = stack_frames(series.frames, series.name)
    if not Grid(labels.shape, labels.affine).same_as(Grid(series.shape, stack.affine)):
        shown = " x ".join(map(str, series.shape))
        raise ScanError(
            f"{series.name}: the labels are not on its grid of {shown} voxels; "
            "give the labels that were made from this series"
        )
    present = [int(index) for index in np.unique(labels.data) if index != 0]
    if not present:
        raise ScanError(f"{series.name}: no structure in the labels; a DICOM SEG needs one")
    with quiet():
        numbers = present if form == "labelmap" else range(1, len(present) + 1)
        voxels = classes_of(labels.data, (0, *present)) if form == "binary" else labels.data
        kind = np.uint8 if max(numbers) < 256 else np.uint16
        dataset: Dataset = highdicom.seg.Segmentation(
            source_images=_stand_ins(series, stack),
            # axes frame, row, column: the frames in the order of the stack
            pixel_array=np.ascontiguousarray(voxels.T, dtype=kind),
            segmentation_type=form.upper(),
            segment_descriptions=_descriptions(highdicom, series, numbers, present, model),
            series_instance_uid=reference.new_uid(),
            sop_instance_uid=reference.new_uid(),
            device_serial_number=weights_sha256[:64],
            content_label=CONTENT_LABEL,
            content_description=CONTENT_DESCRIPTION,
            content_qualification="RESEARCH",
            series_description=SERIES_DESCRIPTION,
            # bits pack eight voxels a byte already, and the standard compresses no others
            transfer_syntax_uid=RLE if form == "labelmap" else EXPLICIT_LITTLE,
            coding_schemes=coding_schemes(),
            **reference.made_by(series, SERIES_NUMBER_OFFSET, model),
        )
        _put_references(dataset, series, stack)
        dataset.BodyPartExamined = "BRAIN"
        reference.save_derived(dataset, path, series)


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
        one = reference.stand_in(series, _MR_IMAGE, _stand_in_uid(place))
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


def _descriptions(
    highdicom: Any, series: Series, numbers: Sequence[int], present: Sequence[int], model: str
) -> list[Dataset]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MAKER,
        family=concept(ARTIFICIAL_INTELLIGENCE),
        version=software_version(),
        source=MAKER,
        parameters={"model": model},
    )
    descriptions = []
    for number, index in zip(numbers, present, strict=True):
        coded, named = coded_structure(index), structure(index)
        one = highdicom.seg.SegmentDescription(
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
        one.SegmentDescription = f"FreeSurfer {index}"
        if coded.side is not None:
            (kind,) = one.SegmentedPropertyTypeCodeSequence
            kind.SegmentedPropertyTypeModifierCodeSequence = [concept(coded.side)]
        descriptions.append(one)
    return descriptions


def tracking_uid(series: Series, index: int) -> str:
    """Return the mark of one structure of one scan, which it keeps when it is segmented again."""
    return reference.lasting_uid(MAKER, series.uid, str(index))


def tracking_name(index: int) -> str:
    """Return what a person calls that mark, such as ``FreeSurfer 17 Left-Hippocampus``."""
    return f"FreeSurfer {index} {structure(index).name}"


def coding_schemes() -> list[Any]:
    """Return what an object says about the scheme of our own codes."""
    item = optional("highdicom", "dicom").coding_schemes.CodingSchemeIdentificationItem
    return [item(PRIVATE_SCHEME, name="ddmseg structures", responsible_organization=MAKER)]


def concept(code: Code) -> Any:
    """Return a code as highdicom takes it."""
    return optional("highdicom.sr", "dicom").CodedConcept(code.value, code.scheme, code.meaning)


def _put_references(dataset: Dataset, series: Series, stack: Stack) -> None:
    """Put the source's own files and frame numbers where the stand-ins are named."""
    from pydicom import Dataset

    real = enumerate(reference.frame_references(series, stack.frames))
    by_stand_in = {_stand_in_uid(place): item for place, item in real}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                # segments share the items of a slice, so it may have been done already
                found = by_stand_in.get(item.ReferencedSOPInstanceUID)
                if found is not None:
                    item.update(found)
    dataset.SourceImageSequence = reference.source_items(series)
    whole = Dataset()
    whole.SeriesInstanceUID = series.uid
    whole.ReferencedInstanceSequence = reference.source_items(series)
    dataset.ReferencedSeriesSequence = [whole]
