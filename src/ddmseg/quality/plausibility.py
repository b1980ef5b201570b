"""What is odd about a scan or its labels, a sentence each that a person understands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.labels import count_voxels, mirror_index, protocol_rows, structure
from ddmseg.imaging.postprocess import Cleaning
from ddmseg.imaging.repairs import OBLIQUE_DEGREES, SHEAR_DEGREES
from ddmseg.imaging.transforms import Step
from ddmseg.imaging.volume import Volume
from ddmseg.models.card import thickest_mm
from ddmseg.models.checkpoint import Card
from ddmseg.quality.missing_tissue import missing_tissue
from ddmseg.quality.reasons import Reason, about_structures
from ddmseg.quality.segmentation import StructureVolume
from ddmseg.quality.standing_out import StandingOut

THICKEST_MM = 6.5
"""Thickest slices of label-map models whose cards do not say what they were trained on."""
HOLE_SHARE, HOLE_ML = 0.05, 2.0
"""A hole is told from this share of all labels, or from this volume if that is less.

Space between the folds is closed in on intact heads, too: up to 0.6 ml in eight of them."""
SATURATED_SHARE = 0.02
"""Share of the labelled voxels at the scan's largest value from which it is cut off."""
CUT_CM2 = 4.0
"""Area of brain on a face of the scan from which it is taken for cut; a tight crop has less."""
ENDS_BELOW = frozenset({16, 24})
"""Brain stem and CSF go on into the neck: they reach the lower face of any scan."""
CROPS = frozenset({"hippocampus"})
"""Kinds of data whose images hold whole structures, three voxels and more from every face."""
UNLIKE_ML = 2.5
"""A connected piece that looks unlike its structure is told from here: seven intact heads had
0.02 to 2.1 ml with ``anatomy``, and with a mass of 10 ml 2.5 ml and more."""
MISSING_ML = 1.0
"""Tissue that is missing on one side is told from here: seven intact heads had none, of 20
training label maps one had 0.7 ml and another 0.15."""
_FACES = (("left", "right"), ("back", "front"), ("bottom", "top"))


@dataclass(frozen=True)
class PlausibleVolume:
    """Volumes that a structure of an adult can have, in ml.

    ``log_ratio`` is the largest absolute log of left over right, infinity on the midline.
    """

    low_ml: float
    high_ml: float
    log_ratio: float


def implausible(
    card: Card,
    scan: Volume,
    labels: NDArray[np.int32],
    volumes: Sequence[StructureVolume],
    cleaning: Cleaning | None,
) -> list[str]:
    """Return what is odd, in order of what it is about: scan, volumes, sides, shape.

    Args:
        labels: FreeSurfer ids on the scan's grid.
        cleaning: what was found in the labels, None when nobody looked.
    """
    kind = card.settings["data"]["kind"]
    whole_head = kind == "label_maps"
    thickest = thickest_mm(card) or (THICKEST_MM if whole_head else math.inf)
    reasons: list[str] = [*_thick(scan, thickest)]
    reasons += [*_saturated(scan, labels), *_odd_volumes(volumes), *_odd_sides(volumes)]
    if whole_head:
        reasons += [*_missing(scan, labels), *_cut(scan, labels)]
    elif kind in CROPS:
        reasons += _cut_structures(scan, labels)
    if cleaning is not None:
        reasons += [*_in_pieces(cleaning), *_holes(scan, labels, cleaning)]
    return reasons


def empty_slices(steps: Sequence[Step]) -> Iterator[str]:
    """Tell by the steps of preprocessing of slices without a signal in the middle of the scan."""
    for step in steps:
        if step.name == "fill_slices":
            filled = len(step.values["filled"])
            found = filled + len(step.values["left"])
            yield Reason(
                f"slices without a signal in the middle of the scan: {found}, of them filled from "
                f"their neighbours: {filled}; what is segmented there is a guess",
                "slices_empty",
                {"slices": found, "filled": filled},
            )


def turned(steps: Sequence[Step]) -> Iterator[str]:
    """Tell by the steps of preprocessing of a scan that lay askew and was turned."""
    for step in steps:
        if step.name != "turn":
            continue
        oblique, shear = step.values["oblique_degrees"], step.values["shear_degrees"]
        if oblique > OBLIQUE_DEGREES:
            degrees = round(oblique)
            yield Reason(
                f"the scan is oblique by {degrees} degrees: it was turned to the axes of the "
                "world; edges are smoother for it",
                "scan_oblique",
                {"degrees": degrees},
            )
        if shear > SHEAR_DEGREES:
            sheared = float(f"{shear:.2g}")
            yield Reason(
                f"the axes of the voxels are {sheared:g} degrees from right angles: the scan was "
                "straightened; volumes may be wrong",
                "scan_sheared",
                {"degrees": sheared},
            )


def unlike(found: StandingOut) -> Iterator[str]:
    """Tell of a piece of the scan that does not look like what it is labelled as."""
    if found.unlike_ml >= UNLIKE_ML:
        name, ml = structure(found.unlike_index).name, _ml(found.unlike_ml, 2)
        yield Reason(
            f"{ml} ml do not look like what they are labelled as, mostly {name}: no anatomy that "
            "the model knows, or an artefact",
            "unlike_structure",
            {"volume_ml": float(ml), "name": name},
        )


@cache
def plausible_volumes() -> dict[int, PlausibleVolume]:
    """Return the range of each structure's volume by FreeSurfer id.

    Source: exp(mean +- 4 standard deviations) of the log volumes of the 20 training label
    maps (sides together), and 4 standard deviations of the log of left over right, at least
    0.15; ``ddmseg_lab.limits.plausible_volumes`` writes the table.
    """
    names = ("low_ml", "high_ml", "log_ratio")
    return {
        int(row["index"]): PlausibleVolume(*(float(row[name] or "inf") for name in names))
        for row in protocol_rows("plausible_volumes")
    }


def _thick(scan: Volume, thickest: float) -> Iterator[str]:
    if max(scan.spacing_mm) > thickest:
        shown = " x ".join(f"{s:.3g}" for s in scan.spacing_mm)
        yield Reason(
            f"voxels of {shown} mm; slices above {thickest:g} mm were not seen in training",
            "thick_slices",
            {"spacing": shown, "thickest_mm": thickest},
        )


def _saturated(scan: Volume, labels: NDArray[np.int32]) -> Iterator[str]:
    inside = scan.data[labels > 0]
    share = float((inside >= scan.data.max()).mean()) if inside.size else 0.0
    if share > SATURATED_SHARE:
        yield Reason(
            f"{share:.0%} of the labelled voxels have the largest value: intensities are cut off",
            "intensities_cut_off",
            {"percent": round(100 * share)},
        )


def _odd_volumes(volumes: Sequence[StructureVolume]) -> Iterator[str]:
    odd: dict[str, list[tuple[str, dict[str, Any]]]] = {"small": [], "large": []}
    for row in volumes:
        range_ml = plausible_volumes().get(row.index)
        if range_ml is None or row.volume_ml == 0:  # a structure not found has its own reason
            continue
        if row.volume_ml < range_ml.low_ml:
            kind, limit, words, digits = "small", range_ml.low_ml, "usual from", 2
        elif row.volume_ml > range_ml.high_ml:
            kind, limit, words, digits = "large", range_ml.high_ml, "usual to", 3
        else:
            continue
        ml, usual = _ml(row.volume_ml, digits), _ml(limit, digits)
        # the digits that the sentence shows
        values = {"name": row.name, "volume_ml": float(ml), "usual_ml": float(usual)}
        odd[kind].append((f"{row.name} ({ml} ml, {words} {usual})", values))
    for kind, told in odd.items():
        if told:
            yield about_structures(f"unusually {kind}", f"volumes_{kind}", told)


def _ml(volume_ml: float, digits: int) -> str:
    """Return a volume with so many digits, whole from 100 ml on.

    >>> _ml(0.3149, 2), _ml(136.2, 2), _ml(1234.5, 3)
    ('0.31', '136', '1234')
    """
    return f"{volume_ml:.0f}" if volume_ml >= 100 else f"{volume_ml:.{digits}g}"


def _odd_sides(volumes: Sequence[StructureVolume]) -> Iterator[str]:
    ml = {row.index: row.volume_ml for row in volumes}
    odd = []
    for index, volume in ml.items():
        name, other = structure(index).name, ml.get(mirror_index(index), 0.0)
        usual = plausible_volumes().get(index)
        # Each pair once, from its left side.
        if usual is None or not name.startswith("Left-") or not volume or not other:
            continue
        if abs(math.log(volume / other)) > usual.log_ratio:
            left, right = _ml(volume, 3), _ml(other, 3)
            values = {"name": name, "left_ml": float(left), "right_ml": float(right)}
            both = name.removeprefix("Left-")
            odd.append((f"{both} ({left} ml left, {right} ml right)", values))
    if odd:
        yield about_structures("unusually asymmetric", "asymmetric", odd)


def _missing(scan: Volume, labels: NDArray[np.int32]) -> Iterator[str]:
    volume_ml, side = missing_tissue(labels, scan.spacing_mm)
    if volume_ml >= MISSING_ML:
        ml = _ml(volume_ml, 2)
        yield Reason(
            f"tissue is missing on the {side} where the other half of the brain has it, {ml} ml "
            "in the core: a cavity, or spaces of fluid of unequal width",
            "tissue_missing",
            {"side": side, "volume_ml": float(ml)},
        )


def _cut(scan: Volume, labels: NDArray[np.int32]) -> Iterator[str]:
    """Name the faces of the scan through which the brain goes."""
    for face, plane, voxel_mm2 in _faces(scan, labels):
        passing = ENDS_BELOW if face == "bottom" else ()
        area_cm2 = voxel_mm2 / 100 * int(((plane > 0) & ~np.isin(plane, list(passing))).sum())
        if area_cm2 > CUT_CM2:
            yield Reason(
                f"the brain reaches the {face} of the image ({area_cm2:.0f} cm2): "
                "part of it may be missing",
                "brain_cut",
                {"face": face, "area_cm2": round(area_cm2)},
            )


def _cut_structures(scan: Volume, labels: NDArray[np.int32]) -> Iterator[str]:
    """Name the structures of a crop that go through its faces: whole ones keep away from them."""
    told = []
    for face, plane, voxel_mm2 in _faces(scan, labels):
        for index, voxels in count_voxels(plane).items():
            if index:
                name, area_mm2 = structure(index).name, float(f"{voxel_mm2 * voxels:.2g}")
                values = {"name": name, "face": face, "area_mm2": area_mm2}
                told.append((f"{name} ({face}, {area_mm2:g} mm2)", values))
    if told:
        begin = "at the edge of the crop, so that part of them may be missing"
        yield about_structures(begin, "structures_cut", told)


def _faces(
    scan: Volume, labels: NDArray[np.int32]
) -> Iterator[tuple[str, NDArray[np.int32], float]]:
    """Yield each face of the scan: where it looks, its labels, and mm2 of a voxel there."""
    towards = np.abs(scan.affine[:3, :3]).argmax(axis=0)
    for axis in range(3):
        across = [s for a, s in enumerate(scan.spacing_mm) if a != axis]
        rising = scan.affine[towards[axis], axis] > 0
        for end in (0, -1):
            face = _FACES[towards[axis]][int((end == -1) == rising)]
            yield face, np.moveaxis(labels, axis, 0)[end], across[0] * across[1]


def _in_pieces(cleaning: Cleaning) -> Iterator[str]:
    if cleaning.pieces:
        pieces = [(structure(i).name, n) for i, n in cleaning.pieces.items()]
        told = [(f"{name} ({n})", {"name": name, "count": n}) for name, n in pieces]
        yield about_structures("in several large pieces", "pieces", told)


def _holes(scan: Volume, labels: NDArray[np.int32], cleaning: Cleaning) -> Iterator[str]:
    limit = min(HOLE_ML, HOLE_SHARE * scan.voxel_ml * int((labels > 0).sum()))
    large = [volume_ml for volume_ml in cleaning.open_holes_ml if volume_ml > limit]
    if large:
        largest = float(f"{large[0]:.2g}") if large[0] < 100 else round(large[0])
        yield Reason(
            f"holes without a label inside the structures: {len(large)}, the largest of "
            f"{largest:g} ml",
            "holes",
            {"count": len(large), "largest_ml": largest},
        )
