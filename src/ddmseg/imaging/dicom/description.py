"""What a series is by its description, where the scanner's Image Type does not tell.

Localisers of some scanners are ORIGINAL images like all others, and maps that an
examiner's workstation computed are DERIVED and no more. People write what they like in
a description, so it refuses no series that somebody asked for; it keeps such a series
from being chosen.

Source: DICOM PS3.3, C.7.3.1 (Series Description is free text), C.7.6.1.1.2 (Image Type).
"""

from __future__ import annotations

import re

from ddmseg.imaging.dicom.series import Series

_LOCALISER = r"(?:locali[sz]er|(?:aa)?scout|survey|loc)s?\d*"
_MAP = "|".join(
    (
        r"e?adc|apparent diffusion(?: coefficients?)?|fractional anisotropy|tracew",
        r"(?:t1|t2|t2 ?star|r1|r2|r2 ?star|b0|b1|fa|md|cbf|cbv|mtt|ttp|tmax|phase|field) ?maps?",
        r"subtract(?:ion|ed)|m(?:in ?)?ips?",
    )
)
_DERIVED_MAP = r"trace|fa|md|cbf|cbv|mtt|ttp|tmax|sub"
"""Words that name a map where the images are derived, and mean other things elsewhere."""


def _whole(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])")


_KINDS = (
    ("a localiser", _whole(_LOCALISER), False),
    ("a computed map", _whole(_MAP), False),
    ("a computed map", _whole(_DERIVED_MAP), True),
)


def described_as(series: Series) -> str | None:
    """Return what a series is called that is no scan to be segmented; None for others.

    Such as ``described as a localiser ('scout')``: of the description only the word
    that was understood is told. A real part alone is one too: that of an inversion
    recovery is a scan, most others are not.
    """
    if all(frame.part == "real" for frame in series.frames) and series.frames:
        return "the real part of a complex image, not its magnitude"
    words = re.sub(r"[^a-z0-9]+", " ", series.description.lower())
    derived = any("DERIVED" in header.image_type for header in series.headers)
    for kind, pattern, of_derived in _KINDS:
        found = pattern.search(words)
        if found is not None and (derived or not of_derived):
            return f"described as {kind} ('{found[0]}')"
    return None
