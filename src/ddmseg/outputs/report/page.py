"""The page of one result: pictures, volumes, verdict and how it was made.

One HTML file that needs nothing else: styles, script and pictures are inside.
It holds no time but the day of the scan, so that the same segmentation gives the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from ddmseg.imaging.grid import Grid
from ddmseg.outputs.report.figures import colour_of
from ddmseg.outputs.report.panels import MAPS, draw_panels, scale_bar
from ddmseg.outputs.report.thumbnail import report_thumbnail
from ddmseg.outputs.report.volumes import volume_tables
from ddmseg.quality.reasons import SUBJECTS, subject
from ddmseg.quality.segmentation import Quality, Segmentation
from ddmseg.quality.standing_out import StandingRegion

__all__ = ["render_report", "report_thumbnail"]

VERDICTS = {
    "pass": ("✓", "Pass", "No check found anything to object to."),
    "warn": ("!", "Warn", "Look at the pictures before you use these numbers."),
    "fail": ("✕", "Fail", "Do not use these numbers."),
}
_MAP_TEXTS = {
    "uncertainty": "Entropy of the averaged class probabilities, from 0 (certain) to 1.",
    "discrepancy": "Where image and labels do not fit each other: high means doubtful.",
}


def render_report(segmentation: Segmentation) -> str:
    """Return the page of a segmentation as one self-contained HTML text.

    Whatever comes from outside (names, reasons, settings) is escaped.
    """
    names = {row.index: row.name for row in segmentation.volumes}
    panels = draw_panels(segmentation, names)
    receipt = list(_without_times(_flatten(segmentation.receipt)))
    return Template(template_text("report.html")).substitute(
        title=escape(segmentation.scan.name),
        style=template_text("report.css") + _structure_styles(panels.indices),
        script=template_text("report.js"),
        facts=_facts(segmentation, dict(receipt)),
        verdict=_verdict(segmentation.quality),
        store=panels.store,
        mosaic=panels.mosaic,
        legend=_legend(panels.indices, names),
        keys="".join(_map_key(kind, panels.tops[kind]) for kind in MAPS),
        places=_places(segmentation, panels.places, names),
        volumes=volume_tables(segmentation),
        receipt=_receipt_rows(receipt),
    )


def template_text(*names: str) -> str:
    """Return the text of files that come with the package for pages, one after the other."""
    folder = resources.files("ddmseg.outputs.report") / "templates"
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def fact_list(facts: Mapping[str, str]) -> str:
    """Return the facts at the head of a page that are not empty, escaped."""
    return "".join(
        f"<div><dt>{label}</dt><dd>{escape(text)}</dd></div>"
        for label, text in facts.items()
        if text
    )


def folded(parts: Sequence[str], shown: int, what: str, around: tuple[str, str] = ("", "")) -> str:
    """Return so many parts open, and the rest folded away behind "N what"."""
    begin, end = around
    text = f"{begin}{''.join(parts[:shown])}{end}"
    if len(parts) <= shown:
        return text
    rest = f"{begin}{''.join(parts[shown:])}{end}"
    return f"{text}<details><summary>{len(parts) - shown} {what}</summary>{rest}</details>"


def _facts(segmentation: Segmentation, receipt: Mapping[str, Any]) -> str:
    scan, quality = segmentation.scan, segmentation.quality
    spent = f"{quality.steps} steps × {quality.samples} samples" if quality.steps else "coarse head"
    facts = {
        "Taken": scan.date,
        "Grid": " × ".join(str(n) for n in scan.shape),
        "Voxel": " × ".join(f"{mm:.3g}" for mm in scan.spacing_mm) + " mm",
        "Axes": Grid(scan.shape, scan.affine).orientation,
        "Model": _named(receipt, "model"),
        "Mode": _named(receipt, "mode"),
        "Sampling": spent,
        "Seed": _named(receipt, "seed"),
    }
    return fact_list(facts)


def _named(receipt: Mapping[str, Any], word: str) -> str:
    """Find a fact of the receipt wherever it is filed: ``model``, ``model.name``, ``x.model``."""
    for key, value in receipt.items():
        if key in (word, f"{word}.name") or key.endswith(f".{word}"):
            return str(value)
    return ""


def _verdict(quality: Quality) -> str:
    mark, word, advice = VERDICTS[quality.verdict]
    listed = _reasons(quality) or f"<p>{advice}</p>"
    return (
        f'<section class="verdict {quality.verdict}" aria-label="Verdict">'
        f'<div class="badge"><span aria-hidden="true">{mark}</span>{word}</div>'
        f'<div class="dice"><b>{quality.dice_text}</b><small>expected Dice</small></div>'
        f"{listed}</section>"
    )


def _reasons(quality: Quality) -> str:
    """Return the reasons under what they are about: scan, anatomy or result."""
    text = ""
    for kind in SUBJECTS:
        own = [escape(reason) for reason in quality.reasons if subject(reason) == kind]
        if own:
            listed = "".join(f"<li>{reason}</li>" for reason in own)
            text += f"<dt>{kind.capitalize()}</dt><dd><ul>{listed}</ul></dd>"
    return f'<dl class="reasons">{text}</dl>' if text else ""


def _legend(indices: Sequence[int], names: Mapping[int, str]) -> str:
    if not indices:
        return '<p class="empty">No structure was found in this scan.</p>'
    return "".join(
        f'<button type="button" data-structure="s{index}" aria-pressed="true">'
        f'<i class="s{index}"></i>{escape(names.get(index, str(index)))}</button>'
        for index in indices
    )


def _structure_styles(indices: Sequence[int]) -> str:
    rules = (
        f".s{index}{{--c:#{red:02x}{green:02x}{blue:02x}}}"
        for index, (red, green, blue) in ((index, colour_of(index)) for index in indices)
    )
    return "".join(rules)


def _map_key(kind: str, top: float) -> str:
    return f'<div class="key {kind}">{scale_bar(kind, top)}<p>{_MAP_TEXTS[kind]}</p></div>'


def _places(segmentation: Segmentation, drawn: Sequence[str], names: Mapping[int, str]) -> str:
    """Return what stands out: pictures of the largest regions, then a list of the others."""
    found = segmentation.standing_out
    if found is None:
        text = "The card of this model does not say what is usual. Look at the maps above."
        return f'<p class="empty">{text}</p>'
    if not found.regions:
        return '<p class="empty">Nothing lies beyond what is usual.</p>'
    words = [_place_words(region, names) for region in found.regions]
    pictures = "".join(
        f'<div class="place"><div class="plane">{figures}</div><p>{text}</p></div>'
        for figures, text in zip(drawn, words, strict=False)
    )
    more = folded(
        [f"<li>{text}</li>" for text in words[len(drawn) :]], 0, "smaller", ("<ul>", "</ul>")
    )
    return f'<div class="places">{pictures}</div>{more if len(words) > len(drawn) else ""}'


def _place_words(region: StandingRegion, names: Mapping[int, str]) -> str:
    name = escape(names.get(region.index, str(region.index)))
    ends = zip(region.position_mm, ("RL", "AP", "SI"), strict=True)
    where = ", ".join(f"{end[value < 0]} {abs(value):.0f}" for value, end in ends)
    why = f"labels in doubt, {region.expected_error_ml:.2f} ml of them expected to be wrong"
    if region.by == "intensity":
        why = "does not look like this structure"
    return f"<b>{name}</b> {region.volume_ml:.2f} ml at {where} mm: {why}"


def _flatten(value: object, key: str = "") -> Iterator[tuple[str, Any]]:
    """Turn nested mappings and lists into rows of dotted key and value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        for place, inner in enumerate(value):
            yield from _flatten(inner, f"{key}.{place}")
    else:
        yield key, value


def _without_times(rows: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Leave out what differs between equal runs: they give equal pages."""
    return (
        (key, value) for key, value in rows if "seconds" not in key and key != "features_from_cache"
    )


def _receipt_rows(rows: Sequence[tuple[str, Any]]) -> str:
    return "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in rows
    )
