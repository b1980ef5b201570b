"""Values of DICOM elements, of the type and number that is wanted, or nothing.

Scanners and anonymisers write all sorts of things; what cannot be understood counts as absent here,
and whoever needs it says so. Numbers are taken from any kind of text (value representation), since
some writers store them as unlimited text or bytes.

Source: DICOM PS3.5, 6.2 (value representations), 6.4 (the backslash between values).
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_TEXT = 64  # characters kept of a text: the longest that the standard allows a description
MAX_VALUES = 64  # values of an element that are looked at: pydicom makes an object of each
MAX_WHOLE = 1 << 31  # whole numbers reach up to this: the standard's longest have 32 bits

_TEXTS = frozenset(
    (
        *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT"),
        *("PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),
    )
)


def value(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value; None when it is absent, empty, not readable or endless."""
    try:
        stored = _stored(dataset, keyword)
        if stored is None or _is_endless(stored.value, keyword):
            return None
        found = dataset[_tag(keyword)].value
    # a damaged value can make its converter raise anything; it counts as absent
    except Exception:
        return None
    return None if found is None or found == "" else found


@cache
def _tag(keyword: str) -> Any:
    """The tag of a keyword; pydicom looks it up anew, several times for each value."""
    from pydicom.tag import Tag

    return Tag(keyword)


def _stored(dataset: Dataset, keyword: str) -> Any:
    """An element as it is stored, or parsed if somebody has asked for it; None when absent."""
    tag = _tag(keyword)
    return dataset.get_item(tag) if tag in dataset else None


def _is_endless(raw: Any, keyword: str) -> bool:
    """Whether a value that is not parsed yet may have above ``MAX_VALUES`` values."""
    if not isinstance(raw, bytes) or keyword.endswith("Sequence"):
        return False
    return raw.count(b"\\") >= MAX_VALUES


def printable(raw: str) -> str:
    """Return a text in one line, without control characters and of bounded length.

    >>> printable("T1 \\x1b[2J  axial ")
    'T1 [2J axial'
    """
    clean = "".join(" " if c.isspace() else c for c in raw[: 4 * MAX_TEXT])
    return " ".join("".join(c for c in clean if c.isprintable()).split())[:MAX_TEXT]


def text(dataset: Dataset, keyword: str) -> str:
    """Return a text, printable and of bounded length; empty when it is absent."""
    return printable("\\".join(_texts(value(dataset, keyword))))


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element as upper-case words, each as :func:`text` gives it."""
    return tuple(printable(one).upper() for one in _texts(value(dataset, keyword)))


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return a whole number of at most 32 bits, or None."""
    found = number(dataset, keyword, math.nan)
    return int(found) if found.is_integer() and abs(found) < MAX_WHOLE else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers, or None."""
    found = _stored_texts(dataset, keyword)
    if len(found) != count or any("_" in one for one in found):  # Python reads 1_0 as 10
        return None
    try:
        several = tuple(float(one.strip(" \0")) for one in found)
    except (ValueError, OverflowError):
        return None
    return several if all(map(math.isfinite, several)) else None


def number(
    dataset: Dataset, keyword: str, default: float, *, unreadable: float | None = None
) -> float:
    """Return a finite number; the default for an absent or empty one.

    ``unreadable`` stands for a value that is no finite number; as one that is absent when left out.
    """
    if (found := numbers(dataset, keyword, 1)) is not None:
        return found[0]
    return default if unreadable is None or not _holds(dataset, keyword) else unreadable


def _holds(dataset: Dataset, keyword: str) -> bool:
    """Whether an element is there and has a value, be it what it will."""
    stored = _stored(dataset, keyword)
    if stored is None or not isinstance(stored.value, bytes):
        return stored is not None and stored.value not in (None, "")
    return bool(stored.value.strip(b" \0"))


def _stored_texts(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an element as texts, those of any kind of text as they are stored."""
    stored = _stored(dataset, keyword)
    if stored is not None and isinstance(stored.value, bytes) and stored.VR in _TEXTS:
        return [] if _is_endless(stored.value, keyword) else _texts(stored.value)
    return _texts(value(dataset, keyword))


def _texts(found: Any) -> list[str]:
    """One text for each value; none for sequences and whatever else is no text or number."""
    if isinstance(found, bytes):
        found = found.decode("latin-1")
    if isinstance(found, str):
        return found.split("\\")
    several = found if isinstance(found, MutableSequence) else [found]
    return [str(one) for one in several if isinstance(one, str | int | float)]
