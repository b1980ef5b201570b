"""JSON that others wrote: read within bounds, and every fault of it is one kind of error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20
"""Of a file; what ddmseg writes itself stays far below."""
DEEPEST = 32
"""Tables and lists within each other."""


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """Return what a JSON file holds; errors as of :func:`read_bounded` and :func:`parse_json`."""
    return parse_json(read_bounded(path, most_bytes=most_bytes))


def read_bounded(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a regular file of at most so many.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is longer, or no regular file and might never end.
    """
    if not path.is_file():
        # opening what is absent says so in the system's words
        path.stat()
        raise ValueError("no regular file")
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"longer than {most_bytes} bytes")
    return data


def parse_json(text: bytes | str) -> Any:
    """Return what JSON text in UTF-8 says.

    Raises:
        ValueError: when it is no JSON, holds a name twice in one table or a number that is none
            or infinite, or is nested too deeply.
    """
    try:
        found = json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=_table,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    check_depth(found)
    return found


def check_depth(found: Any) -> None:
    """Refuse what is nested deeper than ``DEEPEST``: whoever walks through it would fail."""
    level = [found]
    for _ in range(DEEPEST + 1):
        holders = [x for x in level if isinstance(x, dict | list)]
        inner = [x.values() if isinstance(x, dict) else x for x in holders]
        level = [x for values in inner for x in values]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is no number")
    return number


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} occurs twice")
    return table
