"""Readers of the data sets: where their files lie and which case is in which split.

A reader lists cases; it opens no image. Every reader is ``NAME.list_cases(root)``
with the folder that holds all sets; without it, ``DDMSEG_DATA`` names it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Case": "case",
    "data_folder": "case",
    "SplitCases": "split_tables",
    "split_by_person": "person_split",
    "read_split": "split_tables",
    "split_cases": "split_tables",
}
READERS = ("hippocampus", "ibsr18", "malc2012", "lpba40", "adni", "brats", "label_maps", "bids")

__all__ = [
    "READERS",
    "Case",
    "SplitCases",
    "data_folder",
    "read_split",
    "split_by_person",
    "split_cases",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in READERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
