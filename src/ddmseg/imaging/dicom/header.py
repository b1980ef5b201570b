"""What a DICOM image file says of itself and of its slices, without pixels and without the patient.

Coordinates are DICOM's: LPS millimetres, that is towards the patient's left, back and head.
``geometry`` turns them to RAS. In an enhanced (multi-frame) file a functional group is shared by
all frames or given for each; the one of the frame wins.

Source: DICOM PS3.3, C.7.6.2 (Image Plane), C.7.6.3 (Image Pixel), C.8.3 (MR Image), C.7.6.16
(Multi-frame Functional Groups), C.8.13.5 (MR groups).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ddmseg.imaging.dicom.bounds import FRAME_COST, Effort
from ddmseg.imaging.dicom.element_parser import damaged
from ddmseg.imaging.dicom.elements import MAX_WHOLE, number, numbers, text, value, whole, words
from ddmseg.imaging.dicom.file import Source, StoredPixels, read_header_elements, refused

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies, and how its stored values become intensities.

    ``index`` counts the slices of a file from 0; ``instance`` is the number that people call the
    image by. ``position`` (centre of the first pixel) and ``orientation`` (unit vectors along a row
    and down a column) are LPS, in mm; ``pixel_spacing_mm`` is between rows and between columns.
    Intensity is ``slope`` * stored value + ``intercept``, NaN where the file has something there
    that is no number. ``contrast`` tells images of one place apart; ``part`` is that of a complex
    image, or empty.
    """

    path: Source
    index: int
    instance: int | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, ...] | None
    slope: float = 1.0
    intercept: float = 0.0
    contrast: tuple[tuple[str, str], ...] = ()
    part: str = ""


_PARTS = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
_PART_WORDS = {
    **{word: word.lower() for word in ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")},
    **{"PHASE MAP": "phase", "PHASE_MAP": "phase"},
}


def complex_part(image_type: Sequence[str], component: str = "") -> str:
    """Return which part of a complex image Image Type or Complex Image Component name.

    Siemens writes a letter as the third word, Philips as the fourth behind one that begins with it;
    elsewhere these letters mean nothing.

    >>> complex_part(("ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"))
    'real'
    >>> complex_part(("ORIGINAL", "PRIMARY", "P", "ND"))
    'phase'
    >>> complex_part(("DERIVED", "SECONDARY", "OTHER", "M"), "IMAGINARY")
    'imaginary'
    >>> complex_part(("ORIGINAL", "PRIMARY", "OTHER", "P"))
    ''
    """
    if component.upper() in _PART_WORDS:
        return _PART_WORDS[component.upper()]
    third, fourth = (*image_type[2:4], "", "")[:2]
    if third in _PARTS or third[:2] in ("M_", "P_", "R_", "I_"):
        return _PARTS[fourth if third not in _PARTS and fourth in _PARTS else third[0]]
    return next((_PART_WORDS[word] for word in image_type[2:] if word in _PART_WORDS), "")


MAX_FRAMES = 2048
"""Frames of a file that are looked at; volumes have fewer, and time series are no scan."""


def described_frames(dataset: Dataset) -> int:
    """Return how many frames :func:`enhanced_frames` yields: at most ``MAX_FRAMES``.

    0 where their number is not that of the images, or is above.
    """
    groups = value(dataset, "PerFrameFunctionalGroupsSequence")
    count = len(groups) if isinstance(groups, MutableSequence) else 0
    return count if count == whole(dataset, "NumberOfFrames") and count <= MAX_FRAMES else 0


def enhanced_frames(dataset: Dataset, path: Source) -> Iterator[Frame]:
    """Yield the frames in the order of the pixels; what a group lacks stays None."""
    if not described_frames(dataset):
        return
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    instance = whole(dataset, "InstanceNumber")
    of_file = complex_part(words(dataset, "ImageType"), text(dataset, "ComplexImageComponent"))
    for index, own in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups = (_group(own, shared, f"{name}Sequence") for name in _PLACES)
        kind = _group(own, shared, "MRImageFrameTypeSequence")
        part = complex_part(words(kind, "FrameType"), text(kind, "ComplexImageComponent"))
        contrast = (
            (name, "\\".join(words(_group(own, shared, sequence), keyword)))
            for name, sequence, keyword in _FRAME_CONTRAST
        )
        yield _frame((path, index, instance), groups, contrast, part or of_file)


def _frame(
    where: tuple[Source, int, int | None],
    groups: Iterable[Dataset],
    contrast: Iterable[tuple[str, str]],
    part: str,
) -> Frame:
    """A frame of the groups of ``_PLACES``, which are one and the same in a classic file."""
    position, orientation, measures, rescale = groups
    return Frame(
        *where,
        numbers(position, "ImagePositionPatient", 3),
        numbers(orientation, "ImageOrientationPatient", 6),
        numbers(measures, "PixelSpacing", 2),
        number(rescale, "RescaleSlope", 1.0, unreadable=math.nan),
        number(rescale, "RescaleIntercept", 0.0, unreadable=math.nan),
        *(tuple(contrast), part),
    )


_PLACES = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
_FRAME_CONTRAST = (
    ("echo time", "MREchoSequence", "EffectiveEchoTime"),
    ("repetition time", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("flip angle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("inversion time", "MRModifierSequence", "InversionTimes"),
    ("time point", "FrameContentSequence", "TemporalPositionIndex"),
    ("b-value", "MRDiffusionSequence", "DiffusionBValue"),
    ("image type", "MRImageFrameTypeSequence", "FrameType"),
    ("stack", "FrameContentSequence", "StackID"),
    ("contrast agent", "ContrastBolusUsageSequence", "ContrastBolusAgentAdministered"),
)
_CONTRAST = (
    ("echo time", "EchoTime"),
    ("repetition time", "RepetitionTime"),
    ("flip angle", "FlipAngle"),
    ("inversion time", "InversionTime"),
    ("sequence", "ScanningSequence"),
    ("contrast agent", "ContrastBolusAgent"),
    ("time point", "TemporalPositionIdentifier"),
    ("b-value", "DiffusionBValue"),
    ("image type", "ImageType"),
    ("acquisition", "AcquisitionNumber"),
)


def _group(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return _first(own if keyword in own else shared, keyword)


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set when there is none."""
    from pydicom import Dataset

    items = value(dataset, keyword)
    first = items[0] if isinstance(items, MutableSequence) and items else None
    return first if isinstance(first, Dataset) else Dataset()


_TEXTS = {
    **{"series_uid": "SeriesInstanceUID", "image_uid": "SOPInstanceUID"},
    **{"image_class": "SOPClassUID", "study_uid": "StudyInstanceUID"},
    **{"frame_of_reference": "FrameOfReferenceUID", "description": "SeriesDescription"},
    **{"manufacturer": "Manufacturer", "scanner_model": "ManufacturerModelName"},
}
_NUMBERS = {
    **{"field_strength_t": "MagneticFieldStrength", "flip_angle_degrees": "FlipAngle"},
    **{"repetition_time_ms": "RepetitionTime", "inversion_time_ms": "InversionTime"},
}
KEYWORDS = (
    *(*_TEXTS.values(), *_NUMBERS.values(), *dict(_CONTRAST).values()),
    *("SeriesNumber", "MRAcquisitionType", "Modality", "InstanceNumber", "NumberOfFrames"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "ComplexImageComponent"),
    *("AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "StudyDate"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""All that is ever read of a header; nothing in it names the patient."""
MAX_LENGTH = 65_535  # rows and columns of the largest image that the standard allows
IMAGE_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{one}" for one in ("2", "2.1", "2.2", "4", "4.1", "4.4")
)
"""SOP classes of scans: CT and MR, classic, enhanced and converted from classic ones."""


@dataclass(frozen=True)
class Header:
    """One file with an image: what is the same for all its slices, and the slices.

    ``frames`` are those that count as the scan; ``left_out`` is how many of the file do not. The
    field strength, times and angle are NaN where the file, or its first level, does not say:
    enhanced files keep the last three with their frames. ``date`` is the day of the acquisition,
    else of series or study, as ``2026-11-29``; empty where none is told.
    """

    path: Source
    series_uid: str
    image_uid: str
    image_class: str
    study_uid: str
    frame_of_reference: str
    number: int | None
    description: str
    modality: str
    manufacturer: str
    image_type: tuple[str, ...]
    acquisition: str
    scanner_model: str
    field_strength_t: float
    sequence: tuple[str, ...]
    repetition_time_ms: float
    inversion_time_ms: float
    flip_angle_degrees: float
    transfer_syntax: str
    photometric: str
    rows: int
    columns: int
    samples: int
    bits: int
    frame_count: int
    frames: tuple[Frame, ...]
    pixels: StoredPixels
    left_out: int = 0
    date: str = ""


def read_header(path: Source, *, told: str = "", effort: Effort | None = None) -> Header | None:
    """Return the header of an image file; None for DICOM that holds no image.

    ``told`` and ``effort`` are as of :func:`read_header_elements`.

    Raises:
        ScanError: when the file cannot be read, has a size that no image has, or ends before what
            its class says is in it: passed over, its slice would be missing without a word.
    """
    told = told or str(path)
    dataset, pixels = read_header_elements(path, KEYWORDS, told=told, effort=effort)
    with refused(told, "reading its header"):  # values are converted when they are looked at
        if whole(dataset, "Rows") and whole(dataset, "Columns"):
            if effort is not None:
                effort.spend(FRAME_COST * described_frames(dataset))
            header = _header(dataset, path, pixels)
            _check_sizes(header, told)
            return header
        image_class = text(dataset, "SOPClassUID")
    if not image_class or image_class in IMAGE_CLASSES:
        kind = "a scan" if image_class else "no kind of object"
        raise damaged(told, f"{kind} by its class, without rows and columns: cut off?")
    return None


def _check_sizes(header: Header, told: str) -> None:
    for name, size, most in (
        ("rows", header.rows, MAX_LENGTH),
        ("columns", header.columns, MAX_LENGTH),
        ("samples a pixel", header.samples, 4),
        ("bits a sample", header.bits, 64),
        ("frames", header.frame_count, MAX_WHOLE),
    ):
        if not 1 <= size <= most:
            raise damaged(told, f"{size} {name}; there must be 1 to {most}")


def _header(dataset: Dataset, path: Source, pixels: StoredPixels) -> Header:
    found: dict[str, Any] = {field: text(dataset, key) for field, key in _TEXTS.items()}
    found |= {field: number(dataset, key, math.nan) for field, key in _NUMBERS.items()}
    return Header(
        path=path,
        **found,
        number=whole(dataset, "SeriesNumber"),
        modality=text(dataset, "Modality") or "unknown",
        image_type=words(dataset, "ImageType"),
        acquisition=text(dataset, "MRAcquisitionType").upper(),
        sequence=words(dataset, "ScanningSequence"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        rows=whole(dataset, "Rows") or 0,
        columns=whole(dataset, "Columns") or 0,
        samples=whole(dataset, "SamplesPerPixel") or 1,
        bits=whole(dataset, "BitsAllocated") or 0,
        frame_count=whole(dataset, "NumberOfFrames") or 1,
        frames=tuple(_frames(dataset, path)),
        pixels=pixels,
        date=_date(dataset),
    )


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "StudyDate"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text(dataset, keyword)[:8], "%Y%m%d").date().isoformat()
    return ""


def _frames(dataset: Dataset, path: Source) -> Iterator[Frame]:
    if "PerFrameFunctionalGroupsSequence" in dataset:
        yield from enhanced_frames(dataset, path)
        return
    contrast = ((name, "\\".join(words(dataset, keyword))) for name, keyword in _CONTRAST)
    part = complex_part(words(dataset, "ImageType"), text(dataset, "ComplexImageComponent"))
    yield _frame((path, 0, whole(dataset, "InstanceNumber")), [dataset] * 4, contrast, part)
