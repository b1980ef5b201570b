"""One slice of a DICOM file: where it lies and how its values scale.

Coordinates are DICOM's: LPS millimetres, that is towards the patient's left, back
and head. ``geometry`` turns them to RAS.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg.imaging.dicom.file import Source


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies, and how its stored values become intensities.

    Attributes:
        path: of the file, on disk or in a zip archive.
        index: of the slice in the file, counted from 0.
        instance: the number that people call the image by, or None.
        position: centre of the first pixel, LPS mm, or None.
        orientation: unit vectors along a row and down a column, LPS, or None.
        pixel_spacing_mm: between rows and between columns, or None.
        slope, intercept: intensity = slope * stored value + intercept.
        contrast: pairs of name and value that tell images of one place apart.
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
