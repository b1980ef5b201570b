"""Slices as SVG: a grey picture, outlines and colour maps, each stored once in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ddmseg.outputs.report.contours import outline
from ddmseg.outputs.report.figures import (
    PLANES,
    SPARSE,
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
class Panels:
    """The pictures of one report as HTML.

    ``store`` holds every picture once; ``mosaic`` and ``places`` show them by name,
    ``places`` one text for each region that stands out. ``tops`` says where each map's colour
    scale ends.
    """

    store: str
    mosaic: str
    places: tuple[str, ...]
    tops: dict[str, float]
    indices: tuple[int, ...]


def draw_panels(segmentation: Segmentation, names: dict[int, str]) -> Panels:
    """Cut the slices of all three planes and draw them.

    ``names`` are shown when the pointer rests on a structure.
    """
    upright = Upright.of(segmentation)
    tops = {"uncertainty": scale_top(upright.uncertainty[SPARSE])}
    tops["discrepancy"] = scale_top(upright.discrepancy[SPARSE])
    stored, rows, places = [], [], []
    for plane in PLANES:
        cuts = upright.slices(plane, SLICES)
        stored += [_stored(f"{plane.name}-{i}", cut, tops, names) for i, cut in enumerate(cuts)]
        layers = ("lines", *MAPS, "beyond")
        shown = [_figure(f"{plane.name}-{i}", cut, layers) for i, cut in enumerate(cuts)]
        rows.append(f'<div class="plane">{"".join(shown)}</div>')
    for number, region in enumerate(_shown(segmentation)):
        pieces = upright.around(region.position_mm, REACH_MM)
        keys = [f"place-{number}-{piece.plane.name}" for piece in pieces]
        pairs = list(zip(keys, pieces, strict=True))
        stored += [_stored(key, piece, {}, names) for key, piece in pairs]
        places.append("".join(_figure(key, piece, ("beyond",)) for key, piece in pairs))
    return Panels(
        store=f'<svg class="store" aria-hidden="true"><defs>{"".join(stored)}</defs></svg>',
        mosaic="".join(rows),
        places=tuple(places),
        tops=tops,
        indices=tuple(drawn_ids(upright.labels)),
    )


def _shown(segmentation: Segmentation) -> Sequence[DoubtfulRegion]:
    found = segmentation.standing_out
    return [] if found is None else found.regions[:MOST_PLACES]


def scale_bar(kind: str, top: float) -> str:
    """Return the legend of a map: its colours from 0 to ``top``."""
    colours = colour_scale(MAPS[kind])[::17]
    stops = ",".join(f"rgb({red},{green},{blue})" for red, green, blue in colours.tolist())
    ticks = "".join(f"<span>{value:.4g}</span>" for value in (0.0, top / 2, top))
    return (
        f'<div class="scale"><i style="background:linear-gradient(90deg,{stops})"></i>'
        f'<div class="ticks">{ticks}</div></div>'
    )


def _stored(key: str, cut: Slice, tops: dict[str, float], names: dict[int, str]) -> str:
    pictures = {"grey": grey_png(cut.grey)}
    for kind, values in (("uncertainty", cut.uncertainty), ("discrepancy", cut.discrepancy)):
        if kind in tops:
            pictures[kind] = scale_png(to_steps(values, tops[kind]), MAPS[kind])
    width, height = cut.size_mm
    images = "".join(
        f'<image id="{kind}-{key}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}"/>'
        for kind, picture in pictures.items()
    )
    # outlines count in half pixels; one transform makes them millimetres
    scale = f"scale({cut.pixel_mm[1] / 2:g} {cut.pixel_mm[0] / 2:g})"
    groups = {"beyond": f'<path class="out" d="{outline(cut.beyond)}"/>'}
    if tops:  # pieces around what stands out show the scan as it is
        groups["lines"] = _outlines(cut, names)
    drawn = "".join(
        f'<g id="{name}-{key}" transform="{scale}">{paths}</g>' for name, paths in groups.items()
    )
    return f"{images}{drawn}"


def _outlines(cut: Slice, names: dict[int, str]) -> str:
    return "".join(
        f'<path class="s{index}" d="{outline(cut.labels == index)}">'
        f"<title>{escape(names.get(index, str(index)))}</title></path>"
        for index in drawn_ids(cut.labels)
    )


def _figure(key: str, cut: Slice, layers: tuple[str, ...]) -> str:
    width, height = cut.size_mm
    position = cut.position_text
    uses = "".join(f'<use class="{layer}" href="#{layer}-{key}"/>' for layer in ("grey", *layers))
    left, right = cut.plane.marks
    return (
        f'<figure tabindex="0" aria-label="{cut.plane.name} slice, {position}">'
        f'<svg viewBox="0 0 {width:g} {height:g}">{uses}</svg>'
        f'<b class="left">{left}</b><b class="right">{right}</b>'
        f"<figcaption>{position}</figcaption></figure>"
    )
