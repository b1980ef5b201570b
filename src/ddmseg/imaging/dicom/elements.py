"""Values of DICOM elements, of the type and number that is wanted, or nothing.

Scanners and anonymisers write all sorts of things; what cannot be understood counts
as absent here, and whoever needs it says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_TEXT = 64
"""Characters kept of a text: the longest that the standard allows a description."""
MAX_VALUES = 64
"""Values of an element that are looked at: pydicom makes an object of each."""


def value(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None when it is absent, empty, not readable or endless."""
    try:
        if _count(dataset, keyword) > MAX_VALUES:
            return None
        found = dataset.get(keyword)
    # a damaged value can make its converter raise anything; it counts as absent
    except Exception:
        return None
    return None if found is None or found == "" else found


def _count(dataset: Dataset, keyword: str) -> int:
    """How many values an element has as it is stored, at least; 1 for what is parsed already.

    Numbers that are stored as bits have no separator, and a few bytes that look like one.
    """
    stored = dataset.get_item(keyword) if keyword in dataset else None
    raw = getattr(stored, "value", None)
    if not isinstance(raw, bytes) or keyword.endswith("Sequence"):
        return 1
    return raw.count(b"\\") + 1


def text(dataset: Dataset, keyword: str) -> str:
    """Return a text, printable and of bounded length; empty when it is absent."""
    found = value(dataset, keyword)
    clean = "".join(c for c in str(found or "")[: 4 * MAX_TEXT] if c.isprintable())
    return " ".join(clean.split())[:MAX_TEXT]


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element as upper-case words."""
    found = value(dataset, keyword)
    if found is None:
        return ()
    several = [found] if isinstance(found, str | int | float) else list(found)
    return tuple(str(one).strip().upper() for one in several)


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return a whole number, or None."""
    try:
        return int(value(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers, or None."""
    try:
        found = tuple(float(one) for one in value(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(dataset: Dataset, keyword: str, default: float) -> float:
    """Return a finite number, or the default."""
    try:
        found = float(value(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return default
    return found if math.isfinite(found) else default
