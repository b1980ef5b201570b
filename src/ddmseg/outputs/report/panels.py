"""Slices as SVG: a grey picture, outlines and colour maps, each stored once in the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

import numpy as np

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
from ddmseg.quality.segmentation import Segmentation

SLICES = 6
MAP_SLICES = 3
MAPS = {"uncertainty": "ember", "discrepancy": "glacier"}


@dataclass(frozen=True)
class Panels:
    """The pictures of one report as HTML.

    ``store`` holds every picture once; ``mosaic`` and the two maps show them
    by name. ``tops`` says where each map's colour scale ends.
    """

    store: str
    mosaic: str
    maps: dict[str, str]
    tops: dict[str, float]
    indices: tuple[int, ...]


def draw_panels(segmentation: Segmentation, names: dict[int, str]) -> Panels:
    """Cut the slices of all three planes and draw them.

    ``names`` are shown when the pointer rests on a structure.
    """
    upright = Upright.of(segmentation)
    tops = {"uncertainty": scale_top(upright.uncertainty[SPARSE])}
    tops["discrepancy"] = scale_top(upright.discrepancy[SPARSE])
    stored, rows = [], []
    map_rows: dict[str, list[str]] = {kind: [] for kind in MAPS}
    for plane in PLANES:
        cuts = upright.slices(plane, SLICES)
        stored += [_stored(f"{plane.name}-{i}", cut, tops, names) for i, cut in enumerate(cuts)]
        shown = [_figure(f"{plane.name}-{i}", cut, ("lines", *MAPS)) for i, cut in enumerate(cuts)]
        rows.append(f'<div class="plane">{"".join(shown)}</div>')
        chosen = np.unique(np.rint(np.linspace(0, len(cuts) - 1, MAP_SLICES + 2)[1:-1]).astype(int))
        for kind in MAPS:
            few = [_figure(f"{plane.name}-{i}", cuts[i], (kind,)) for i in chosen.tolist()]
            map_rows[kind].append(f'<div class="plane">{"".join(few)}</div>')
    return Panels(
        store=f'<svg class="store" aria-hidden="true"><defs>{"".join(stored)}</defs></svg>',
        mosaic="".join(rows),
        maps={kind: "".join(parts) for kind, parts in map_rows.items()},
        tops=tops,
        indices=tuple(drawn_ids(upright.labels)),
    )


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
    return f'{images}<g id="lines-{key}" transform="{scale}">{_outlines(cut, names)}</g>'


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
