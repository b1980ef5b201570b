"""A model too small to know anything, and the real command with what the laboratory adds."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from ddmseg.cli.command_table import ENTRY_POINTS
from real_command import _own_cache, ddmseg, tiny_model

__all__ = ["_own_cache", "ddmseg", "tiny_model"]

if not entry_points(group=ENTRY_POINTS):
    raise pytest.UsageError(
        "the laboratory is not installed, so ddmseg has none of its commands: "
        "pip install --editable ./lab"
    )
