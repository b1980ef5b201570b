"""What reviewers decided of the runs, from the logs of the review page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.errors import ScanError
from ddmseg.monitoring.columns import Line
from ddmseg.monitoring.statistics import keyed_hash
from ddmseg.review.log import LOG, ReviewLog


@dataclass(frozen=True)
class Decision:
    """What came of one result: accepted, corrected or rejected, and how much was drawn anew."""

    outcome: str
    edited_ml: float


def read_reviews(folder: Path) -> tuple[dict[str, Decision], list[str]]:
    """Return the decision on each labels file by its SHA-256, and what is wrong with a log.

    The logs of the folder and of all folders below are read; there must be one.
    """
    logs = sorted(folder.rglob(LOG))
    if not logs:
        raise ScanError(f"{folder}: no {LOG} here; name the folder that ddmseg review was given")
    entries: dict[str, list[dict[str, Any]]] = {}
    problems = []
    for path in logs:
        log = ReviewLog(path.parent)
        try:
            problem, found = log.verify().problem, log.entries()
        except ScanError as error:
            problems.append(str(error))
            continue
        if problem:
            problems.append(f"{path}: {problem}")
        for entry in found:
            entries.setdefault(str(entry.get("original_sha256", "")), []).append(entry)
    return {digest: _decision(of_one) for digest, of_one in entries.items() if digest}, problems


def _decision(entries: Sequence[dict[str, Any]]) -> Decision:
    """The newest word counts; accepting a correction does not make it undone."""
    edits = [entry["edit"] for entry in entries if isinstance(entry.get("edit"), dict)]
    edited_ml = float(edits[-1].get("ml_changed", 0.0)) if edits else 0.0
    if entries[-1].get("action") == "reject":
        return Decision("rejected", edited_ml)
    return Decision("corrected" if edits else "accepted", edited_ml)


def join_reviews(lines: Sequence[Line], decisions: dict[str, Decision], salt: bytes) -> list[Line]:
    """Return the lines with ``review`` and ``edited_ml`` where a decision is known."""
    by_key: dict[object, Decision] = {
        keyed_hash(salt, digest): decision for digest, decision in decisions.items()
    }
    found = [by_key.get(line.get("labels_key")) for line in lines]
    return [
        {**line, "review": one.outcome, "edited_ml": one.edited_ml} if one else {**line}
        for line, one in zip(lines, found, strict=True)
    ]
