"""The tables that ship beside this code: what to look up, never what came out."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def shipped_table(name: str) -> dict[str, Any]:
    """Return one of the TOML files of this package, such as ``figures``."""
    file = resources.files("ddmseg_lab.dossier") / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
