"""Series that hold more than one scan: what of them is one, and what each mixture is called.

Scanners put several images of one place into one series: parts of a complex image, echoes,
diffusion weightings, time points. Where a whole magnitude is among the parts it is the scan.
Anything else would need somebody's choice, so it is refused by its name; slices of two kinds that
lie side by side would pass for a scan otherwise.

Source: DICOM PS3.3, C.8.3.1 (MR Image), C.8.13.3.1.3 (Complex Image Component).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.header import Frame, Header

_TIMES = ("echo time", "repetition time", "inversion time")
UNITS = {**dict.fromkeys(_TIMES, "ms"), "flip angle": "degrees"}
RELATIVE_TOLERANCE = 0.02
"""Share by which times and angles of one scan may differ; some scanners write measured ones."""
B_VALUE_TOLERANCE = 5.0  # s/mm^2 by which b-values of one scan may differ
SHOWN_VALUES = 4  # values of a mixture that a message names


def magnitude_alone(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Return the headers with the magnitude alone, where there is all of it.

    That is, where each image of another part of the complex image lies at the place of a magnitude
    image. Otherwise all are returned, to be refused by :func:`check_mixture`.
    """
    frames = [frame for header in headers for frame in header.frames]
    places = {_place(frame) for frame in frames if frame.part == "magnitude"}
    others = [frame for frame in frames if frame.part not in ("magnitude", "")]
    if not others or not all(_place(frame) in places for frame in others):
        return tuple(headers)
    kept = []
    for header in headers:
        own = tuple(frame for frame in header.frames if frame.part in ("magnitude", ""))
        if own or not header.frames:
            kept.append(replace(header, frames=own, left_out=len(header.frames) - len(own)))
    return tuple(kept)


def left_out(all_headers: Sequence[Header], kept: Sequence[Header]) -> str:
    """Return what :func:`magnitude_alone` left out, such as ``60 phase images``; or nothing."""
    before, after = (
        Counter(frame.part for header in headers for frame in header.frames)
        for headers in (all_headers, kept)
    )
    return " and ".join(
        f"{count} {part} images" for part, count in sorted((before - after).items())
    )


def check_mixture(headers: Sequence[Header], name: str) -> None:
    """Refuse slices of several kinds, whether they share places or lie side by side."""
    values = [
        {
            "modality": header.modality,
            "scanner": " ".join((header.manufacturer, header.scanner_model)).strip(),
            "part": frame.part,
            **dict(frame.contrast),
        }
        for header in headers
        for frame in header.frames
    ]
    for kind in dict.fromkeys(key for one in values for key in one):
        groups = _groups(kind, [one.get(kind, "") for one in values])
        if len(groups) < 2:
            continue
        shown = [f"{_shown(kind, value)} in {count} images" for value, count in groups]
        if len(shown) > SHOWN_VALUES:
            shown[SHOWN_VALUES:] = [f"{len(shown) - SHOWN_VALUES} more"]
        raise ScanError(
            f"{name}: a mixture of images that differ in {_NAMES.get(kind, kind)} "
            f"({'; '.join(shown)}); a scan has one; export one a series, or convert it with "
            "dcm2niix, which takes it apart"
        )


_NAMES = {"part": "the part of the complex image", "sequence": "scanning sequence"}
_EXACT = frozenset(("modality", "scanner", "part", "image type", "sequence"))


def _groups(kind: str, values: Sequence[str]) -> list[tuple[str, int]]:
    """The different values of a kind, and how many images have each; at most one is fine."""
    if kind == "contrast agent":
        return _counted(["without" if one in ("", "NO", "NONE") else "with" for one in values])
    if kind == "b-value":
        # images that are not weighted often lack it
        return _near([value or "0" for value in values], 0.0, B_VALUE_TOLERANCE)
    known = [value for value in values if value]
    if kind in UNITS:
        return _near(known, RELATIVE_TOLERANCE, 0.0)
    if kind == "time point":
        # some scanners number slices there: then none has the number of another
        groups = _counted(known)
        return groups if len(groups) < len(known) else []
    return _counted(known) if kind in _EXACT else []


def _counted(values: Sequence[str]) -> list[tuple[str, int]]:
    return sorted(Counter(values).items())


def _near(values: Sequence[str], relative: float, absolute: float) -> list[tuple[str, int]]:
    """Values in groups of those that differ from the first of the group by no more than that."""
    groups: list[tuple[str, int]] = []
    for value, count in sorted(Counter(values).items(), key=lambda one: _number(one[0])):
        near = groups and math.isclose(
            _number(value), _number(groups[-1][0]), rel_tol=relative, abs_tol=absolute
        )
        if near:
            groups[-1] = (groups[-1][0], groups[-1][1] + count)
        else:
            groups.append((value, count))
    return groups


def _number(value: str) -> float:
    """The first of the values; infinity for what is no number."""
    try:
        return float(value.split("\\")[0])
    except ValueError:
        return math.inf


def _shown(kind: str, value: str) -> str:
    if kind in UNITS and math.isfinite(_number(value)):
        return f"{_number(value):g} {UNITS[kind]}"
    return value.replace("\\", "/")


def _place(frame: Frame) -> tuple[float, ...] | None:
    """Where a slice lies, rounded to what tells slices apart; None when it does not say."""
    if frame.position is None or frame.orientation is None:
        return None
    return tuple(round(one, 2) + 0.0 for one in (*frame.position, *frame.orientation))
