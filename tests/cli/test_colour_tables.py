"""Colour tables, read back by the rules of the programs they are for."""

from __future__ import annotations

import re
import shlex

import pytest

from ddmseg.cli.commands.models import colour_table
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS, structure

LABELS = (*ANATOMY_LABELS, *HIPPOCAMPUS_LABELS)


def rows(viewer: str) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Return name and numbers by id."""
    found = {}
    for line in colour_table(viewer, LABELS).splitlines():
        words = shlex.split(line)
        name = words.pop(-1 if viewer == "itk-snap" else 1)
        found[int(words[0])] = (name, tuple(map(int, words[1:])))
    return found


@pytest.mark.parametrize("viewer", ["freesurfer", "itk-snap", "slicer"])
def test_every_label_has_its_name_and_colour(viewer) -> None:
    found = rows(viewer)
    assert set(found) == set(LABELS)
    for index in set(LABELS) - {0}:
        name, numbers = found[index]
        assert (name, numbers[:3]) == (structure(index).name, structure(index).colour)


def test_opacity_is_what_each_program_takes_it_for() -> None:
    assert rows("freesurfer")[17][1][3:] == (0,)  # nothing of the opacity is missing
    assert rows("itk-snap")[17][1][3:] == (1, 1, 1)
    assert rows("itk-snap")[0] == ("Clear Label", (0, 0, 0, 0, 0, 0))
    assert (rows("slicer")[17][1][3:], rows("slicer")[0][1][3:]) == ((255,), (0,))


def test_the_command_prints_one(ddmseg) -> None:
    outcome = ddmseg("models", "--lut", "freesurfer")
    assert outcome.code == 0
    assert re.search(r"^17 Left-Hippocampus 220 216 20 0$", outcome.out, re.MULTILINE)
    assert "232 HP_head" in outcome.out
