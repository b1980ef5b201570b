"""How far found volumes are from drawn ones, on scans of a few persons."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ddmseg.datasets.case import Case
from ddmseg_lab.limits import usual_dice

LABELS = (0, 17, 53, 24)
DRAWN = {"a": {17: 100, 53: 50}, "b": {17: 300, 53: 50}, "c": {17: 80}}
FOUND = {"a": {17: 200, 53: 50, 24: 5}, "b": {17: 200, 53: 100, 24: 5}, "c": {17: 160, 53: 9}}


def volume(sizes: dict[int, int]) -> np.ndarray:
    return np.repeat(list(sizes), list(sizes.values()))


def test_the_bias_is_a_mean_over_persons_of_what_both_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Heads:
        structures = (17, 53)

        def truth(self, case: Case) -> np.ndarray:
            return volume(DRAWN[case.identifier])

    monkeypatch.setattr(usual_dice, "HEADS", Heads())
    persons = {"a": "first", "b": "first", "c": "second"}
    scans = [Case(name, (Path(name),), None, person) for name, person in persons.items()]
    found = [volume(FOUND[scan.identifier]) for scan in scans]
    bias = usual_dice.drawn_bias(scans, found, LABELS)
    first = (math.log(100 / 200) + math.log(300 / 200)) / 2
    assert bias["Left-Hippocampus"] == pytest.approx((first + math.log(80 / 160)) / 2, abs=1e-3)
    # Nobody drew the right one of scan c, and CSF is drawn by nobody.
    assert bias["Right-Hippocampus"] == pytest.approx(math.log(50 / 100) / 2, abs=1e-3)
    assert set(bias) == {"Left-Hippocampus", "Right-Hippocampus", "Hippocampus"}
