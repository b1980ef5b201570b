"""Templates: rows of tables, and values that are missing."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from ddmseg_lab.template import cells, render


def test_cells_stay_in_their_place():
    assert cells(["x | y", "two\nlines"]) == "| x \\| y | two lines |"


def test_a_value_that_is_missing_is_no_empty_word():
    with pytest.raises(UndefinedError, match="'items' is undefined"):
        render("ddmseg_lab.dossier", "checklist.md", notice="", version="")
