"""What the measuring of budgets is made of; nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.speed import budget
from benchmarks.speed.budget import COLUMNS, row_of, smallest_budget, summarise

from ddmseg.errors import SettingsError

RECORD = {
    "seconds": 8.0,
    "predicted_seconds": 5.5,
    "seconds_in_all": 6.12345,
    "drawn": [{"steps": 2, "samples": 3}, {"steps": 10, "samples": 4}],
    "stopped_because": "no room",
    "slowdown": 1.2,
    "expected_dice": 0.71234,
}


def test_a_row_tells_what_was_given_and_spent() -> None:
    row = row_of(RECORD)
    assert set(row) < set(COLUMNS)
    assert (row["spent"], row["within"], row["steps_and_samples"]) == (6.123, 1, "2x3+10x4")
    assert row_of({**RECORD, "seconds_in_all": 8.01})["within"] == 0


def test_the_share_within_the_budget_has_an_interval() -> None:
    run = {"budget": "8", "stopped_because": "no room"}
    rows = [{"within": "1", "spent": "4", **run}] * 19 + [{"within": "0", "spent": "9", **run}]
    rows += [{"within": "", "spent": "", "budget": "2", "stopped_because": "refused"}] * 3
    found = summarise(rows)
    assert (found["runs"], found["refused"], found["within"]) == (20, 3, 0.95)
    assert found["low"] == pytest.approx(0.764, abs=1e-3)  # Wilson, by hand
    assert found["high"] == pytest.approx(0.991, abs=1e-3)
    assert (found["median_share_used"], found["largest_share_used"]) == (0.5, 1.125)
    assert summarise([]) == {"runs": 0, "refused": 0}


def test_the_smallest_budget_is_the_one_that_the_refusal_names(monkeypatch) -> None:
    def refuse(segmenter, path, options):
        assert (options.mode, options.budget) == ("auto", 1e-3)
        raise SettingsError("budget: got 0.001 s; needs 2.4 s here: give --budget 2.4 or more")

    monkeypatch.setattr(budget, "timed_run", refuse)
    assert smallest_budget(None, Path("scan.nii.gz"), "auto") == 2.4


def test_without_data_only_the_demo_head_is_measured() -> None:
    (path,) = budget.find_scans(None).values()
    assert path.is_file()
