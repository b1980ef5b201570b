"""Checking a log against itself and against the corrected files it speaks of."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from ddmseg.pipeline.review.correction import file_sha256
from ddmseg.pipeline.review.log import ReviewLog, Verification
from ddmseg.pipeline.review.results import CORRECTED


def verify_review(folder: Path) -> Verification:
    """Check the chain of the log, then the hash of every corrected file.

    A file that was corrected several times must have the hash of its newest entry.

    Raises:
        ScanError: when the log or a file cannot be read.
    """
    log = ReviewLog(folder)
    chain = log.verify()
    if chain.problem:
        return chain
    newest: dict[str, dict[str, Any]] = {}
    for entry in log.entries():
        if entry.get("action") == "correct":
            newest[str(entry.get("file"))] = entry
    for name, entry in newest.items():
        wrong = _wrong_file(folder, name, str(entry.get("file_sha256")))
        if wrong:
            problem = f"line {entry['entry']}: {wrong}"
            return Verification(chain.entries, chain.last_sha256, problem)
    for path in sorted(folder.rglob(f"*{CORRECTED}")):
        name = path.relative_to(folder).as_posix()
        if name not in newest and not path.name.startswith("."):
            problem = f"{name}: no line of the log tells of this correction"
            return Verification(chain.entries, chain.last_sha256, problem)
    return chain


def _wrong_file(folder: Path, name: str, digest: str) -> str:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        return f"{name} is not in this folder"
    found = file_sha256(folder / place)
    if not found:
        return f"{name} is missing"
    return "" if found == digest else f"{name} was changed after it was saved"
