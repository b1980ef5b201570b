"""Tests of optional packages."""

from __future__ import annotations

from importlib import util

import pytest


def need(*modules: str) -> None:
    """Skip the test unless the modules are installed; they are not imported here.

    ``pytest.importorskip`` would import them, and OpenVINO asks for an analytics host then.
    """
    for module in modules:
        if util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
