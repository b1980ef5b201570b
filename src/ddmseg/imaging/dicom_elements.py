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


def value(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None when it is absent, empty or not readable."""
    try:
        found = dataset.get(keyword)
    # a damaged value can make its converter raise anything; it counts as absent
    except Exception:
        return None
    return None if found is None or found == "" else found


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
    return tuple(str(one).strip().upper() for one in several[:MAX_TEXT])


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
