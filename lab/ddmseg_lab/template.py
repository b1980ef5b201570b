"""Pages and documents as Jinja templates, in the folder ``templates`` of the package that asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ddmseg_lab.page import number, with_interval


def render(package: str, name: str, **values: Any) -> str:
    """Return a template of a package, such as ``index.md``, filled with values."""
    return _environment(package).get_template(f"{name}.jinja").render(values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cells": cells, "line": one_line}
    environment.filters |= {"interval": with_interval, "number": number}
    return environment


def one_line(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())


def cells(texts: Sequence[str]) -> str:
    r"""Return a row of a Markdown table, in which no cell can break out of its place.

    >>> print(cells(["a", "b | c"]))
    | a | b \| c |
    """
    return f"| {' | '.join(one_line(text).replace('|', chr(92) + '|') for text in texts)} |"
