"""Pages from the templates of the package: whatever comes from outside is escaped."""

from __future__ import annotations

import math
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


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
    environment.filters["fixed"] = _fixed
    return environment


def _escaped(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def _fixed(value: float, digits: int) -> str:
    """Return a number with so many digits behind the point, a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
