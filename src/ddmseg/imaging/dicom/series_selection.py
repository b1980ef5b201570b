"""Which series of an examination to segment, and why.

An export holds localisers, maps and several contrasts. What can be read at all, and is not
described as a localiser or a map, is ranked by how near it is to what the model was trained on: MR,
as scanned, as much of the head, T1-like, slices no thicker, in 3-D, without contrast agent, in fine
voxels.

Localisers of some scanners are ORIGINAL images like all others, and maps that an examiner's
workstation computed are DERIVED and no more. People write what they like in a description, so it
refuses no series that somebody asked for; it keeps such a series from being chosen.

Source: DICOM PS3.3, C.7.3.1 (Series Description is free text), C.7.6.1.1.2 (Image Type).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.geometry import stack_frames
from ddmseg.imaging.dicom.series import Series, refusal

_LOCALISER = r"(?:locali[sz]er|(?:aa)?scout|survey|loc)s?\d*"
_MAP = (
    r"e?adc|apparent diffusion(?: coefficients?)?|fractional anisotropy|tracew|"
    r"(?:t1|t2|t2 ?star|r1|r2|r2 ?star|b0|b1|fa|md|cbf|cbv|mtt|ttp|tmax|phase|field) ?maps?|"
    r"subtract(?:ion|ed)|m(?:in ?)?ips?"
)
_DERIVED_MAP = r"trace|fa|md|cbf|cbv|mtt|ttp|tmax|sub"
"""Words that name a map where the images are derived, and mean other things elsewhere."""
_DESCRIBED = tuple(
    (kind, re.compile(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])"), of_derived)
    for kind, words, of_derived in (
        ("a localiser", _LOCALISER, False),
        ("a computed map", _MAP, False),
        ("a computed map", _DERIVED_MAP, True),
    )
)


def described_as(series: Series) -> str | None:
    """Return what a series is called that is no scan to be segmented; None for others.

    Such as ``described as a localiser ('scout')``: of the description only the word that was
    understood is told. A real part alone is one too: that of an inversion recovery is a scan, most
    others are not.
    """
    if all(frame.part == "real" for frame in series.frames) and series.frames:
        return "the real part of a complex image, not its magnitude"
    words = re.sub(r"[^a-z0-9]+", " ", series.description.lower())
    derived = any("DERIVED" in header.image_type for header in series.headers)
    for kind, pattern, of_derived in _DESCRIBED:
        found = pattern.search(words)
        if found is not None and (derived or not of_derived):
            return f"described as {kind} ('{found[0]}')"
    return None


HEAD_MM = 120.0  # least extent, along each axis, of a scan that shows a whole head
ISOTROPIC_RATIO = 2.0
"""Longest over shortest voxel edge up to which slices count as 3-D when nothing is said."""
_T1 = re.compile(r"t1|mp2?rage|mpr(?![a-z])|spgr|bravo|tfe|vibe|flash")
_OTHER = re.compile(
    r"t2|flair|dark.?fluid|dwi|dti|diff|adc|swi|tof|angio|\bmra\b|\bpd\b|ciss|fiesta|epi\b|bold|"
    r"asl|perf|stir|scout|survey|locali[sz]er"
)
_AGENT = re.compile(r"\bgd|_gd|gado|post|\+ ?c\b|(\b|_)(ce|km|gk)(\b|_)|contrast")
_KINDS = {2: "T1-like by its description", 1: "contrast not named", 0: "not T1-like"}


@dataclass(frozen=True)
class Trained:
    """What a model was trained on.

    A scan no wider than ``largest_crop_mm`` along any axis is like the crops it learned from; 0 for
    whole heads. A model of crops takes whole heads as well, and finds its part of them.
    ``max_slice_mm`` is the longest voxel edge that it accepts; ``t1_alone``: it saw no other
    images.
    """

    name: str
    largest_crop_mm: float = 0.0
    max_slice_mm: float = math.inf
    t1_alone: bool = False


ANY_MODEL = Trained("the models")  # what holds for all of them: they know heads and T1 best


@dataclass(frozen=True)
class Choice:
    """The series to segment, ``why``, and what of it the model was not trained on.

    ``doubtful``: it was asked for and would not have been chosen, by its description.
    """

    series: Series
    why: str
    doubtful: bool = False


@dataclass(frozen=True)
class _Traits:
    """What a series is ranked by, the weightiest first."""

    magnetic: bool
    as_scanned: bool
    extent_mm: tuple[float, ...]
    t1: int
    three_d: bool
    plain: bool
    coarsest_mm: float

    @property
    def whole_head(self) -> bool:
        """Whether it may show one."""
        return min(self.extent_mm) >= HEAD_MM

    def rank(self, model: Trained) -> tuple[float, ...]:
        """Larger is better."""
        covers = self.whole_head or self.is_crop(model)
        thin = self.coarsest_mm <= model.max_slice_mm
        # who saw T1 alone is lost in another contrast; who saw them all is in thick slices
        known = (self.t1, thin) if model.t1_alone else (thin, self.t1)
        coarse = round(self.coarsest_mm, 1)  # a tenth of a millimetre decides nothing
        return (
            *(self.magnetic, self.as_scanned, covers, *known, self.three_d, self.plain),
            -coarse,
        )

    def is_crop(self, model: Trained) -> bool:
        """Whether it is like the crops that a model learned from."""
        return max(self.extent_mm) <= model.largest_crop_mm


def choose_series(
    found: Sequence[Series], wanted: str | None = None, *, model: Trained = ANY_MODEL
) -> Choice:
    """Return the series that was asked for, or else the one that fits the model best.

    One that is described as a localiser or a computed map is taken only when it was asked for.

    Raises:
        ScanError: when there is none such, or none can be segmented.
    """
    if wanted is not None:
        series, named = _wanted(found, wanted), "named with --series"
        doubt = described_as(series)
        told = f"{named}, though {doubt}" if doubt else named
        if refusal(series) is None:
            told += _left_out(series) + _beyond(_traits(series), model)
        return Choice(series, told, doubt is not None)
    reasons = {series.uid: refusal(series) or _doubt(series) for series in found}
    usable = [series for series in found if reasons[series.uid] is None]
    if not usable:
        first = next(reason for reason in reasons.values() if reason)
        if len(found) == 1:
            raise ScanError(first)
        raise ScanError(f"none of {len(found)} series can be segmented; the first: {first}")
    traits = {series.uid: _traits(series) for series in usable}
    # of equals the first, as the scanner counts them; more slices before fewer
    best = max(usable, key=lambda one: (*traits[one.uid].rank(model), one.shape[2]))
    if not traits[best.uid].magnetic:
        raise ScanError(
            f"{best.name}: no MR series here, and the models know MR only; "
            "name a series with --series to segment it all the same"
        )
    return Choice(best, _why(best, traits[best.uid], model, len(usable), len(found)))


def describe_series(series: Series) -> str:
    """Return one line for a list: number, modality, vendor, description, size, trouble."""
    spacing = series.spacing_mm
    edges = "no common grid" if spacing is None else f"{shown_mm(spacing)} mm"
    number = "without number" if series.number is None else str(series.number)
    columns, rows, count = series.shape
    words = (
        *(f"series {number}", series.modality, series.manufacturer or "vendor not named"),
        f"'{series.description}'" if series.description else "no description",
        f"{count} slice{'' if count == 1 else 's'} of {columns} x {rows}",
        edges,
    )
    reason, doubt = refusal(series), described_as(series)
    if reason is not None:
        trouble = f"; not usable: {reason.removeprefix(series.name).lstrip(':, ')}"
    else:
        trouble = f"; not taken unasked: {doubt}" if doubt else _left_out(series)
    return ", ".join(words) + trouble


def shown_mm(spacing_mm: Sequence[float]) -> str:
    """Return voxel edges as people write them.

    >>> shown_mm((0.41015625, 0.41015625, 1.5))
    '0.41 x 0.41 x 1.5'
    """
    return " x ".join(f"{edge:.3g}" for edge in spacing_mm)


def _doubt(series: Series) -> str | None:
    """Why a series is not taken unasked, as a refusal; None when it may be."""
    doubt = described_as(series)
    if doubt is None:
        return None
    name = series.uid if series.number is None else series.number
    return (
        f"{series.name}: {doubt}, so it is not taken unasked; choose another series, or pass "
        f"--series {name} to segment it all the same"
    )


def _wanted(found: Sequence[Series], wanted: str) -> Series:
    fitting = [one for one in found if wanted in (one.uid, str(one.number))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        uids = ", ".join(one.uid for one in fitting)
        raise ScanError(
            f"--series {wanted}: {len(fitting)} series have this number; name one of {uids}"
        )
    numbers = ", ".join(str(one.number) for one in found if one.number is not None)
    raise ScanError(
        f"--series {wanted}: no such series; there are {numbers or 'none with a number'} "
        "(--list-series shows more)"
    )


def _traits(series: Series) -> _Traits:
    header = series.headers[0]
    words = series.description.lower()
    affine = stack_frames(series.frames, series.name).affine
    edges = ((affine[:3, :3] ** 2).sum(axis=0) ** 0.5).tolist()
    extent = [edge * length for edge, length in zip(edges, series.shape, strict=True)]
    named = "t1" in words or (_T1.search(words) is not None and _OTHER.search(words) is None)
    return _Traits(
        magnetic=series.modality == "MR",
        as_scanned="DERIVED" not in header.image_type,
        extent_mm=tuple(extent),
        t1=2 if named else 0 if _OTHER.search(words) else 1,
        three_d=header.acquisition == "3D"
        or (not header.acquisition and max(edges) / min(edges) <= ISOTROPIC_RATIO),
        plain=_AGENT.search(words) is None,
        coarsest_mm=max(edges),
    )


def _why(series: Series, traits: _Traits, model: Trained, usable: int, found: int) -> str:
    spacing = series.spacing_mm
    part = "a crop" if traits.is_crop(model) else "part of a head"
    told = [
        _KINDS[traits.t1],
        "as scanned" if traits.as_scanned else "derived",
        "whole head" if traits.whole_head else part,
        "3-D" if traits.three_d else "2-D",
        f"{shown_mm(spacing)} mm" if spacing else "",
    ]
    only = "the only one" if found == 1 else f"the only usable one of {found}"
    count = f"the best of {usable} usable of {found}" if usable > 1 else only
    chosen = f"{', '.join(filter(None, told))}; {count}, for {model.name}"
    return chosen + _left_out(series) + _beyond(traits, model)


def _left_out(series: Series) -> str:
    """What was exported with a scan and is not part of it, behind a semicolon."""
    return f"; the magnitude alone, without {series.left_out}" if series.left_out else ""


def _beyond(traits: _Traits, model: Trained) -> str:
    """What of a series a model was not trained on, behind a semicolon; empty for nothing."""
    if model == ANY_MODEL:
        return ""
    told = []
    if not traits.t1:
        told.append("T1 alone" if model.t1_alone else "T1 most")
    if not (traits.whole_head or traits.is_crop(model)):
        crops = f" and crops to {model.largest_crop_mm:g} mm" if model.largest_crop_mm else ""
        told.append(f"whole heads{crops}")
    if traits.coarsest_mm > model.max_slice_mm:
        told.append(f"voxels to {model.max_slice_mm:g} mm")
    return f"; but {model.name} learned from {', '.join(told)}" if told else ""
