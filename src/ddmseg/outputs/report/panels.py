"""Slices for a page: a grey picture, outlines and colour maps, each stored once in it."""

from __future__ import annotations

import base64
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
    """Slices of each plane, those around each region that stands out, ends of colour scales."""

    planes: list[list[Drawn]]
    places: list[list[Drawn]]
    tops: dict[str, float]
    indices: list[int]


def draw_panels(segmentation: Segmentation) -> Panels:
    """Cut the slices of all three planes and draw them."""
    upright, found = Upright.of(segmentation), segmentation.standing_out
    tops = {kind: scale_top(getattr(upright, kind)[SPARSE]) for kind in MAPS}
    planes = []
    for plane in PLANES:
        cuts = enumerate(upright.slices(plane, SLICES))
        planes.append([_drawn(f"{plane.name}-{number}", cut, tops) for number, cut in cuts])
    places = []
    for number, region in enumerate(found.regions[:MOST_PLACES] if found else []):
        pieces = upright.around(region.position_mm, REACH_MM)
        places.append([_drawn(f"place-{number}-{one.plane.name}", one, None) for one in pieces])
    return Panels(planes, places, tops, drawn_ids(upright.labels))


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
