"""Slices for a page: a grey picture, outlines and colour maps, each stored once in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ddmseg.outputs.report.contours import outline
from ddmseg.outputs.report.figures import (
    PLANES,
    SPARSE,
    Plane,
    Slice,
    Upright,
    drawn_ids,
    scale_top,
    to_steps,
)
from ddmseg.outputs.report.png import colour_scale, grey_png, scale_png
from ddmseg.quality.doubtful_regions import DoubtfulRegion
from ddmseg.quality.segmentation import Segmentation

SLICES = 6
MOST_PLACES = 4
"""Regions that are drawn; the rest is listed."""
REACH_MM = 32.0
"""How much of the scan is shown around one."""
MAPS = {"uncertainty": "ember", "discrepancy": "glacier"}


@dataclass(frozen=True)
class Drawn:
    """A slice under the name that the page knows it by.

    Attributes:
        pictures: PNG in base64, by kind.
        scale: makes the half pixels of outlines millimetres, as width and height are.
        beyond: outline of what stands out, as the ``d`` of an SVG path.
        lines: those of the labels, by id; None where the scan is shown as it is.
    """

    key: str
    plane: Plane
    position: str
    width: float
    height: float
    scale: str
    pictures: dict[str, str]
    beyond: str
    lines: dict[int, str] | None


@dataclass(frozen=True)
class Panels:
    """The pictures of one report.

    ``planes`` has the slices of each plane, ``places`` those around each region that stands
    out. ``tops`` says where each map's colour scale ends.
    """

    planes: list[list[Drawn]]
    places: list[list[Drawn]]
    tops: dict[str, float]
    indices: list[int]


def draw_panels(segmentation: Segmentation) -> Panels:
    """Cut the slices of all three planes and draw them."""
    upright = Upright.of(segmentation)
    tops = {kind: scale_top(getattr(upright, kind)[SPARSE]) for kind in MAPS}
    planes = [
        [
            _drawn(f"{plane.name}-{number}", cut, tops)
            for number, cut in enumerate(upright.slices(plane, SLICES))
        ]
        for plane in PLANES
    ]
    places = [
        [
            _drawn(f"place-{number}-{piece.plane.name}", piece, None)
            for piece in upright.around(region.position_mm, REACH_MM)
        ]
        for number, region in enumerate(_shown(segmentation))
    ]
    return Panels(planes, places, tops, drawn_ids(upright.labels))


def _shown(segmentation: Segmentation) -> Sequence[DoubtfulRegion]:
    found = segmentation.standing_out
    return [] if found is None else found.regions[:MOST_PLACES]


def gradient(kind: str) -> str:
    """Return the colours of a map's scale, as the stops of a gradient in CSS."""
    return ",".join(f"rgb({r},{g},{b})" for r, g, b in colour_scale(MAPS[kind])[::17].tolist())


def _drawn(key: str, cut: Slice, tops: dict[str, float] | None) -> Drawn:
    pictures = {"grey": grey_png(cut.grey)}
    for kind, top in (tops or {}).items():
        pictures[kind] = scale_png(to_steps(getattr(cut, kind), top), MAPS[kind])
    ids = None if tops is None else drawn_ids(cut.labels)
    return Drawn(
        key,
        cut.plane,
        cut.position_text,
        *cut.size_mm,
        scale=f"scale({cut.pixel_mm[1] / 2:g} {cut.pixel_mm[0] / 2:g})",
        pictures={kind: base64.b64encode(png).decode() for kind, png in pictures.items()},
        beyond=outline(cut.beyond),
        lines=None if ids is None else {index: outline(cut.labels == index) for index in ids},
    )
