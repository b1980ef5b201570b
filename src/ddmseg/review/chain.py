"""One line of the log: its form, what it holds, and its place in the chain."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ddmseg.models.json_reader import parse_json

FIRST = "0" * 64
"""What the first line gives as the hash of the line before."""
_TEXTS = (
    *("time", "scan", "action", "reviewer", "note"),
    *("file", "file_sha256", "original_sha256", "previous_sha256"),
)


def line_of(entry: dict[str, Any]) -> bytes:
    """Return the one form of an entry: names in order, no spaces, UTF-8.

    Bytes of a file name that are no text are escapes, as JSON has them.
    """
    text = json.dumps(
        entry, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return text.encode("utf-8", "backslashreplace")


def entry_of(line: bytes) -> dict[str, Any]:
    """Return the entry of a line.

    Raises:
        ValueError: what is wrong with it: no JSON object in its one form, or a value of a kind
            that no entry has.
    """
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise ValueError("no JSON; it was damaged or changed") from error
    if not isinstance(entry, dict):
        raise ValueError("no JSON object; it was changed")
    if line not in (line_of(entry), _older_line_of(entry)):
        raise ValueError("not in the form in which lines are written; it was changed")
    for name, value in entry.items():
        if not _fits(name, value):
            raise ValueError(f"its {name} is of a kind that no entry has; it was changed")
    return entry


def line_sha256(line: bytes) -> str:
    """Return the hash by which the next line knows this one."""
    return hashlib.sha256(line).hexdigest()


def wrong_place(entry: dict[str, Any], number: int, previous: str) -> str:
    """Return why an entry cannot be the line of that number after that hash, or ""."""
    if entry.get("previous_sha256") != previous:
        before = f"line {number - 1}" if number > 1 else "an empty log"
        return f"its previous_sha256 is not that of {before}; one of the two was changed"
    if entry.get("entry") != number:
        return f"its entry says {entry.get('entry')!r}; lines are missing or were moved"
    return ""


def _older_line_of(entry: dict[str, Any]) -> bytes | None:
    """The form of lines that were never sealed: spaces, and names as they came."""
    if "seal" in entry:
        return None
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _fits(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name == "edit":
        return isinstance(value, dict) and is_number(value.get("ml_changed", 0.0))
    return name != "entry" or type(value) is int


def is_number(value: Any) -> bool:
    """Say whether a value of a JSON text is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
