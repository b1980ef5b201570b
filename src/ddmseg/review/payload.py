"""What the page is told, as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ddmseg import __version__
from ddmseg.errors import printable
from ddmseg.outputs.report.png import HUES, colour_scale
from ddmseg.quality.reasons import reason_code
from ddmseg.review.edit_metrics import shown_edit
from ddmseg.review.results import CORRECTED, MAPS, ScanResult
from ddmseg.review.session import MAX_NOTE, Review, Row

LARGEST_DRAWN_ID = 255
"""NiiVue draws in one byte a voxel."""
FADE_IN = {"ember": (0.12, 0.42), "glacier": (0.25, 0.5)}
"""Shares of each map's scale from which it begins to show, and from which it is opaque.

The discrepancy is opaque where a label is more probably wrong than right, and clear up to half of
that: a quarter would lay a veil over most of a brain (0.71 of the labelled voxels of the demo
scan; half, 0.19). The entropy of the uncertainty is on a scale of its own.
"""
MOST_OPAQUE = 235
_DECISION_FIELDS = ("entry", "time", "action", "reviewer", "note", "edit")
_STATES = {"accept": "accepted", "reject": "rejected", "correct": "corrected"}


def session_payload(review: Review) -> dict[str, Any]:
    """Return what holds for the whole page: version, reviewer, colour scales of the maps."""
    return {
        "version": __version__,
        "reviewer": review.reviewer,
        "max_note": MAX_NOTE,
        "scales": {name: _scale(name) for name in HUES},
    }


def _scale(name: str) -> dict[str, list[int]]:
    """A colour scale as NiiVue wants it: a list for each channel."""
    red, green, blue = colour_scale(name).T.tolist()
    # low values say nothing, and a veil of them over the air hides the scan
    begins, opaque = FADE_IN[name]
    opacity = np.clip((np.linspace(0.0, 1.0, 256) - begins) / (opaque - begins), 0.0, 1.0)
    return {
        "R": red,
        "G": green,
        "B": blue,
        "A": np.rint(MOST_OPAQUE * opacity).astype(int).tolist(),
        "I": list(range(256)),
    }


def problem_payload(error: Exception) -> dict[str, Any]:
    """Return what went wrong as a sentence, and as a code with values where it has one.

    >>> from ddmseg.errors import ScanError
    >>> problem_payload(ScanError("it is odd"))
    {'error': 'it is odd', 'code': None}
    """
    said = error.args[0] if error.args else ""
    return {"error": str(error), "code": reason_code(said)}


def row_payload(row: Row, review: Review) -> dict[str, Any]:
    """Return one row of the table."""
    summary = row.summary
    return {
        "id": row.result.identifier,
        "name": printable(row.result.name),
        "verdict": summary.verdict,
        "expected_dice": summary.expected_dice,
        "reasons": summary.reasons,
        "reason_codes": summary.reason_codes,
        "steps": summary.steps,
        "samples": summary.samples,
        "volumes": [asdict(volume) for volume in summary.volumes],
        "state": _state(row),
        "decision": _decision(row),
    }


def _state(row: Row) -> str:
    # what was decided on other labels is not decided on these
    if row.changed:
        return "open"
    return _STATES.get(str(row.decisions[-1].get("action")), "open") if row.decisions else "open"


def _decision(row: Row) -> dict[str, Any] | None:
    if not row.decisions:
        return None
    newest = row.decisions[-1]
    return {**{field: newest.get(field) for field in _DECISION_FIELDS}, "edit": shown_edit(newest)}


def detail_payload(review: Review, identifier: str) -> dict[str, Any]:
    """Return everything about one scan that is no picture."""
    row = review.row(identifier)
    labels = row.summary.labels
    grid = review.labels(identifier)
    return {
        **row_payload(row, review),
        "labels": [asdict(label) for label in labels],
        "has_scan": review.source_scan(identifier) is not None,
        "has_correction": row.result.has(CORRECTED),
        "maps": _maps(row.result),
        "frames": review.frame_counts(identifier),
        "seen": review.seen(identifier),
        "drawable": all(label.index <= LARGEST_DRAWN_ID for label in labels),
        "voxel_ml": grid.voxel_ml,
        "shape": grid.shape,
        "spacing_mm": [round(s, 3) for s in grid.spacing_mm],
        "last_edit": _last_edit(row),
    }


def _maps(result: ScanResult) -> list[str]:
    return [kind for kind, suffix in MAPS.items() if result.has(suffix)]


def _last_edit(row: Row) -> dict[str, Any] | None:
    edits = [shown_edit(entry) for entry in row.decisions if entry.get("action") == "correct"]
    return edits[-1] if edits else None
