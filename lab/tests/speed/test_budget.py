"""What the measuring of budgets is made of; nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.segmenter import Segmenter
from ddmseg_lab.speed import budget
from ddmseg_lab.speed.budget import (
    COLUMNS,
    Free,
    Scan,
    measured_row,
    row_of,
    smallest_budget,
    summarise,
    summarise_all,
)

SEGMENTER = object.__new__(Segmenter)
"""Never asked: what it would be asked by is replaced."""
RECORD = {
    "seconds": 8.0,
    "drawn": [{"steps": 2, "samples": 3}, {"steps": 10, "samples": 4}],
    "stopped_because": "no room",
}
RUN = {
    **{"scan": "brain", "mode": "auto", "factor": "1.1", "budget": "8", "agreement": "0.9"},
    **{"stopped_because": "no room", "spent": "4", "within": "1"},
    **{"expected_dice": "0.7", "free_expected_dice": "0.71", "dice": "nan", "free_dice": "nan"},
}


def test_a_row_tells_what_was_given_and_spent() -> None:
    row = row_of(RECORD, 6.12345)
    assert set(row) < set(COLUMNS)
    assert (row["spent"], row["within"], row["steps_and_samples"]) == (6.123, 1, "2x3+10x4")
    assert row_of(RECORD, 8.01)["within"] == 0


def test_the_share_within_the_budget_has_an_interval() -> None:
    found = summarise([RUN] * 19 + [{**RUN, "within": "0", "spent": "9"}])
    assert (found["runs"], found["within"]) == (20, 0.95)
    assert found["low"] == pytest.approx(0.764, abs=1e-3)  # Wilson, by hand
    assert found["high"] == pytest.approx(0.991, abs=1e-3)
    assert (found["median_share_used"], found["largest_share_used"]) == (0.5, 1.125)
    assert summarise([]) == {"runs": 0}


def test_the_least_is_what_a_tiny_budget_leaves(monkeypatch) -> None:
    seconds = iter([9.0, 2.4])

    def timed(segmenter, path, options):
        assert (options.mode, options.budget) == ("auto", 1e-3)
        return None, next(seconds)

    monkeypatch.setattr(budget, "timed_run", timed)
    assert smallest_budget(SEGMENTER, Path("scan.nii.gz"), "auto") == 2.4


def test_what_is_given_up_is_told_of_scans_that_have_it() -> None:
    scored = {**RUN, "dice": "0.78", "free_dice": "0.80"}
    found = summarise([RUN, scored, {**scored, "dice": "0.76", "expected_dice": "0.71"}])
    assert found["dice_lost"] == pytest.approx({"mean": 0.03, "largest": 0.04})
    assert found["expected_dice_lost"] == pytest.approx({"mean": 0.02 / 3, "largest": 0.01})
    assert found["agreement"] == pytest.approx(0.9)
    assert summarise([RUN])["dice_lost"] is None


def test_runs_are_told_apart_by_mode_and_size() -> None:
    found = summarise_all([RUN, {**RUN, "mode": "diffusion"}, {**RUN, "factor": "4"}])
    assert found["all"]["runs"] == 3
    assert {mode: one["runs"] for mode, one in found["modes"].items()} == {
        **{"auto": 2, "diffusion": 1},
    }
    assert list(found["factors"]["auto"]) == ["1.1", "4"]
    assert found["factors"]["diffusion"]["4"] == {"runs": 0}


def test_without_data_only_the_demo_head_is_measured() -> None:
    (scan,) = budget.find_scans(None).values()
    assert scan.path.is_file()
    assert np.isnan(scan.dice(np.ones((2, 2, 2), np.int32)))


def test_the_brain_has_its_manual_labels(data_folder) -> None:
    brain = budget.find_scans(str(data_folder))["brain"]
    assert brain.dice(brain.truth) == 1.0


def test_an_answer_is_held_against_the_one_without_a_budget(monkeypatch) -> None:
    truth, labels = np.zeros((2, 4), np.int32), np.zeros((2, 4), np.int32)
    truth[0], labels[0, :2] = 17, 17  # half of the structure: Dice 2/3
    result = SimpleNamespace(
        labels=SimpleNamespace(data=labels),
        quality=SimpleNamespace(expected_dice=0.7),
        receipt={"budget": RECORD},
    )
    monkeypatch.setattr(budget, "timed_run", lambda *_: (result, 6.0))
    free = Free(truth, 0.75, 1.0)
    row = measured_row(SEGMENTER, Scan(Path("scan.nii.gz"), truth), SegmentOptions(budget=8), free)
    assert (row["dice"], row["agreement"]) == (0.6667, 0.6667)
    assert (row["free_dice"], row["free_expected_dice"], row["expected_dice"]) == (1, 0.75, 0.7)
    at = {"scan", "mode", "repeat", "factor", "weights"}
    assert set(row) | at == set(COLUMNS)
