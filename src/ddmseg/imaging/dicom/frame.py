"""One slice of a DICOM file: where it lies and how its values scale.

Coordinates are DICOM's: LPS millimetres, that is towards the patient's left, back
and head. ``geometry`` turns them to RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        slope, intercept: intensity = slope * stored value + intercept; NaN where the file
            has something there that is no number.
        contrast: pairs of name and value that tell images of one place apart.
        part: of a complex image: magnitude, phase, real or imaginary; empty when not told.
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

    Siemens writes a letter as the third word, Philips as the fourth behind one that begins
    with it; elsewhere these letters mean nothing.

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
