"""Checking a log against itself and against the files that its lines name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddmseg.review.files import found_sha256, inside
from ddmseg.review.log import ReviewLog, Verification
from ddmseg.review.results import CORRECTED, LABELS

_DECIDED = {"accept": "accepted", "reject": "rejected", "correct": "saved"}


def verify_review(folder: Path) -> Verification:
    """Check the log, then the labels of every decision that counts.

    A decision that was interrupted is finished or taken back first. The labels of the newest
    decision on a scan, and those it was made from, must be as they were; so must the newest
    correction of each scan, and no correction may lie there that the log does not know. ScanError
    when the log or a file cannot be read.
    """
    log = ReviewLog(folder)
    log.settle()
    chain = log.verify()
    entries = log.entries()
    problem = chain.problem or _wrong_labels(folder, entries) or _unlogged(folder, entries)
    return replace(chain, problem=problem)


def _wrong_labels(folder: Path, entries: Sequence[dict[str, Any]]) -> str:
    counts = [
        *{e.get("file", ""): e for e in entries if e.get("action") == "correct"}.values(),
        *{e["scan"]: e for e in entries if "scan" in e}.values(),
    ]
    for entry in sorted(counts, key=lambda one: int(one.get("entry", 0))):
        if wrong := wrong_file(folder, entry):
            return f"line {entry.get('entry')}: {wrong}"
    return ""


def wrong_file(folder: Path, entry: dict[str, Any]) -> str:
    """Return which labels of a decision are gone, changed or elsewhere, or ""."""
    name, done = entry.get("file", ""), _DECIDED.get(entry.get("action", ""), "logged")
    original = name.removesuffix(CORRECTED) + LABELS if name.endswith(CORRECTED) else name
    for file, digest in ((name, "file_sha256"), (original, "original_sha256")):
        if not file or digest not in entry:
            continue
        if (place := inside(folder, file)) is None:
            return f"{file} is not in this folder"
        if not (found := found_sha256(place)):
            return f"{file} is missing"
        if found != entry[digest]:
            return f"{file} was changed after it was {done}"
    return ""


def _unlogged(folder: Path, entries: Sequence[dict[str, Any]]) -> str:
    logged = {inside(folder, e.get("file", "")) for e in entries if e.get("action") == "correct"}
    for path in sorted(folder.rglob(f"*{CORRECTED}")):
        if path not in logged and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            return f"{name}: no line of the log tells of this correction"
    return ""
