"""The slices of an enhanced (multi-frame) DICOM file, from its functional groups.

A group is shared by all frames or given for each; the one of the frame wins.

Source: DICOM PS3.3, C.7.6.16 (Multi-frame Functional Groups), C.8.13.5 (MR groups).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddmseg.imaging.dicom.elements import number, numbers, value, whole, words
from ddmseg.imaging.dicom.file import Source
from ddmseg.imaging.dicom.frame import Frame

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 2048
"""Frames of a file that are looked at; volumes have fewer, and time series are no scan."""


def enhanced_frames(dataset: Dataset, path: Source) -> Iterator[Frame]:
    """Yield the frames in the order of the pixels; what a group lacks stays None.

    None at all where their number is not that of the images, or is above ``MAX_FRAMES``.
    """
    groups = value(dataset, "PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != whole(dataset, "NumberOfFrames") or len(groups) > MAX_FRAMES:
        return
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
            number(rescale, "RescaleSlope", 1.0),
            number(rescale, "RescaleIntercept", 0.0),
            tuple(_contrast(own, shared)),
        )


def _contrast(own: Dataset, shared: Dataset) -> Iterator[tuple[str, str]]:
    for name, sequence, keyword in (
        ("echo time", "MREchoSequence", "EffectiveEchoTime"),
        ("time point", "FrameContentSequence", "TemporalPositionIndex"),
        ("b-value", "MRDiffusionSequence", "DiffusionBValue"),
        ("image type", "MRImageFrameTypeSequence", "FrameType"),
        ("stack", "FrameContentSequence", "StackID"),
    ):
        yield name, "\\".join(words(_group(own, shared, sequence), keyword))


def _group(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return _first(own if keyword in own else shared, keyword)


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set when there is none."""
    from pydicom import Dataset

    items = value(dataset, keyword)
    return items[0] if items else Dataset()
