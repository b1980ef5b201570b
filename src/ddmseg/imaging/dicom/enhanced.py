"""The slices of an enhanced (multi-frame) DICOM file, from its functional groups.

A group is shared by all frames or given for each; the one of the frame wins.

Source: DICOM PS3.3, C.7.6.16 (Multi-frame Functional Groups), C.8.13.5 (MR groups).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableSequence
from typing import TYPE_CHECKING

from ddmseg.imaging.dicom.elements import number, numbers, text, value, whole, words
from ddmseg.imaging.dicom.file import Source
from ddmseg.imaging.dicom.frame import Frame, complex_part

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 2048
"""Frames of a file that are looked at; volumes have fewer, and time series are no scan."""


def described_frames(dataset: Dataset) -> int:
    """Return how many frames :func:`enhanced_frames` yields.

    0 where their number is not that of the images, or is above ``MAX_FRAMES``.
    """
    groups = value(dataset, "PerFrameFunctionalGroupsSequence")
    count = len(groups) if isinstance(groups, MutableSequence) else 0
    return count if count == whole(dataset, "NumberOfFrames") and count <= MAX_FRAMES else 0


def enhanced_frames(dataset: Dataset, path: Source) -> Iterator[Frame]:
    """Yield the frames in the order of the pixels; what a group lacks stays None."""
    if not described_frames(dataset):
        return
    groups = dataset.PerFrameFunctionalGroupsSequence
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    instance = whole(dataset, "InstanceNumber")
    for index, own in enumerate(groups):
        position = _group(own, shared, "PlanePositionSequence")
        orientation = _group(own, shared, "PlaneOrientationSequence")
        measures = _group(own, shared, "PixelMeasuresSequence")
        rescale = _group(own, shared, "PixelValueTransformationSequence")
        yield Frame(
            path,
            index,
            instance,
            numbers(position, "ImagePositionPatient", 3),
            numbers(orientation, "ImageOrientationPatient", 6),
            numbers(measures, "PixelSpacing", 2),
            number(rescale, "RescaleSlope", 1.0, unreadable=math.nan),
            number(rescale, "RescaleIntercept", 0.0, unreadable=math.nan),
            tuple(_contrast(own, shared)),
            _part(dataset, own, shared),
        )


def _part(dataset: Dataset, own: Dataset, shared: Dataset) -> str:
    """Which part of a complex image a frame is, else which one the whole file is."""
    kind = _group(own, shared, "MRImageFrameTypeSequence")
    return complex_part(
        words(kind, "FrameType"), text(kind, "ComplexImageComponent")
    ) or complex_part(words(dataset, "ImageType"), text(dataset, "ComplexImageComponent"))


def _contrast(own: Dataset, shared: Dataset) -> Iterator[tuple[str, str]]:
    for name, sequence, keyword in (
        ("echo time", "MREchoSequence", "EffectiveEchoTime"),
        ("repetition time", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        ("flip angle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
        ("inversion time", "MRModifierSequence", "InversionTimes"),
        ("time point", "FrameContentSequence", "TemporalPositionIndex"),
        ("b-value", "MRDiffusionSequence", "DiffusionBValue"),
        ("image type", "MRImageFrameTypeSequence", "FrameType"),
        ("stack", "FrameContentSequence", "StackID"),
        ("contrast agent", "ContrastBolusUsageSequence", "ContrastBolusAgentAdministered"),
    ):
        yield name, "\\".join(words(_group(own, shared, sequence), keyword))


def _group(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return _first(own if keyword in own else shared, keyword)


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set when there is none."""
    from pydicom import Dataset

    items = value(dataset, keyword)
    first = items[0] if isinstance(items, MutableSequence) and items else None
    return first if isinstance(first, Dataset) else Dataset()
