"""Texts, tables, JSON and pages of a result: the same value gives the same bytes.

Files are written whole or not at all (else an OutputError); on pages, whatever comes from
outside is escaped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddmseg.atomic import atomic_write

_BREAKS = re.compile(r"[\t\r\n]+")
_FORMULA = re.compile(r"[\s\x00-\x1f']*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, with the same line ends on every system.

    A byte of a file name that is not UTF-8 is written as ``\\udcXX``, in JSON the same name again.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table with tabs between its cells, the names of the columns first."""
    lines = ["\t".join(map(cell_text, cells)) for cells in (columns, *rows)]
    write_text(path, "\n".join(lines) + "\n")


def cell_text(text: str) -> str:
    """Return a word as a cell of a table: one line, and never a formula.

    Table programs run a cell that begins with ``=``, ``+``, ``-`` or ``@``. Such a word gets an
    apostrophe, by which they know a text; :func:`word_of` takes it away. Numbers stay.

    >>> cell_text("=1+1"), cell_text("-0.5"), cell_text("a\\tb")
    ("'=1+1", '-0.5', 'a b')
    """
    line = _BREAKS.sub(" ", text)
    return f"'{line}" if _FORMULA.match(line) and not _is_number(line) else line


def word_of(cell: str) -> str:
    """Undo the apostrophe of :func:`cell_text`.

    >>> word_of("'=1+1"), word_of("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; what is no number becomes null, numpy's values plain ones."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    """Make a value fit for JSON, which knows no NaN, no numpy and no path."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def render_template(name: str, /, **values: Any) -> str:
    """Return a template of ``report/templates`` filled with values."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ddmseg.outputs.report"),
        autoescape=True,
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["nan"] = math.isnan
    environment.filters["fixed"] = lambda value, digits: (
        "–" if math.isnan(value) else f"{value:.{digits}f}"
    )
    return environment


def _escaped(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))
