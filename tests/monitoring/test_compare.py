"""Window against reference: who is where, what shifted, by how much, since when, and the page."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from functools import partial

import numpy as np
import pytest

from ddmseg.errors import UsageError
from ddmseg.maths.shift import find_shifts
from ddmseg.monitoring import compare
from ddmseg.monitoring.compare import Comparison, compare_runs
from ddmseg.monitoring.page import render_monitor, status_line
from ddmseg.monitoring.plots import MOST_DOTS, Timeline
from ddmseg.monitoring.selection import Choice, select
from monitor_store import START, simulated


@pytest.fixture(autouse=True)
def _fewer_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fine p-values are is tested with the statistics themselves."""
    monkeypatch.setattr(compare, "find_shifts", partial(find_shifts, permutations=499))


def compared(lines: list, choice: Choice | None = None, notes: tuple[str, ...] = ()) -> Comparison:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    return compare_runs(select(lines, choice or Choice("30")), columns, notes=notes)


def noisier(place: int, line: dict) -> dict:
    """From the 70th run on the scanner is noisier and another one joins."""
    later = {"noise": line["noise"] * 2, "vendor": "PHILIPS"} if place >= 70 else {}
    return {"vendor": "SIEMENS", **later}


def test_without_shift_nothing_is_named() -> None:
    found = compared(simulated(100))
    assert found.found == []
    assert found.since == {}
    assert status_line(found) == f"no shift found in {len(found.shifts)} statistics"
    assert "No shift found" in render_monitor(found)


def test_a_shift_is_named_sized_and_dated() -> None:
    lines = simulated(100, change=noisier)
    found = compared(lines)
    assert set(found.found) == {"noise", "vendor"}
    noise = found.numbers["noise"]
    values = np.array([line["noise"] for line in lines])
    assert noise.median == pytest.approx(np.median(values[:70]))
    assert noise.window_median == pytest.approx(np.median(values[70:]))
    low, high = np.percentile(values[:70], [5, 95])
    assert noise.deviations == pytest.approx(
        (noise.window_median - noise.median) / ((high - low) / 3.29)
    )
    assert found.categories["vendor"].window == {"SIEMENS": 0.0, "PHILIPS": 1.0}
    assert found.since["vendor"] == lines[70]["time"]
    assert abs(found.since["noise"] - lines[70]["time"]) <= timedelta(days=2)
    line = status_line(found)
    assert line.startswith(f"2 of {len(found.shifts)} statistics shifted: ")
    assert "Vendor PHILIPS 0% → 100%, since about 2026-04-06" in line
    assert re.search(r"Noise in white matter [\d.]+ → [\d.]+ \(\+\d\.\d SD\), since about", line)


def test_features_have_a_distance_fair_to_both_parts() -> None:
    def elsewhere(place: int, line: dict) -> dict:
        return {f"feature.{k:03d}": line[f"feature.{k:03d}"] + 3 for k in range(4)}

    lines = simulated(70) + [line | elsewhere(0, line) for line in simulated(100, seed=1)[70:]]
    found = compared(lines)
    assert found.found == ["embedding_distance"]
    assert found.numbers["embedding_distance"].deviations > 2
    assert "Distance of features from the reference" in render_monitor(found)


def test_features_of_other_weights_have_no_distance() -> None:
    found = compared(
        simulated(100, change=lambda p, _: {"weights": "new" if p in (3, 80) else "old"})
    )
    distances = found.numbers["embedding_distance"].values
    assert np.flatnonzero(np.isnan(distances)).tolist() == [3, 80]
    assert "2 runs of other weights" in " ".join(found.notes)


def test_runs_of_before_have_no_distance_from_training() -> None:
    def later(place: int, line: dict) -> dict:
        return {"training_distance": 1.0 + line["noise"] % 1} if place >= 40 else {}

    found = compared(simulated(100, change=later))
    distances = found.numbers["training_distance"]
    assert np.flatnonzero(np.isnan(distances.values)).tolist() == list(range(40))
    assert "training_distance" in found.shifts
    assert "Distance of features from training" in render_monitor(found)
    newest = compared(simulated(100, change=lambda p, line: later(p, line) if p >= 70 else {}))
    assert newest.untested["training_distance"] == (
        "0 runs of the reference and 30 of the window have it; at least 20 and 10 are needed"
    )


def test_what_cannot_be_tested_says_why() -> None:
    def change(place: int, _: dict) -> dict:
        return {
            "samples": 4.0 if place < 5 else math.nan,
            "modality": "MR",
            "verdict": None,
            "echo_time_ms": math.inf if place % 2 else 3.0,
        }

    found = compared(simulated(100, change=change))
    assert found.untested["spacing_min_mm"] == "always 1: what never varies cannot be tested"
    assert found.untested["modality"] == "always MR: what never varies cannot be tested"
    assert found.untested["echo_time_ms"].startswith("always 3:")
    assert found.untested["verdict"] == "no run has it"
    assert found.untested["samples"] == (
        "5 runs of the reference and 0 of the window have it; at least 20 and 10 are needed"
    )
    page = render_monitor(found)
    assert f"Not tested: {len(found.untested)}" in page
    assert "always MR" in page


def test_no_statistic_at_all_is_said_too() -> None:
    lines = [{"time": START + timedelta(hours=k), "model": "m", "seconds": 1.0} for k in range(60)]
    found = compared(lines)
    assert found.shifts == {}
    assert "No statistic could be tested" in render_monitor(found)


def test_the_page_is_whole_safe_and_the_same_each_time() -> None:
    evil = "<script>alert(1)</script>"

    def change(place: int, line: dict) -> dict:
        return {**noisier(place, line), "scanner_model": evil if place % 2 else "A", "model": evil}

    found = compared(simulated(100, change=change), notes=(f"a note {evil}",))
    page = render_monitor(found)
    assert page == render_monitor(found)
    assert evil not in page
    assert page.count("&lt;script&gt;alert(1)") > 3
    assert page.count("<script>") == 1
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)
    assert "Research use only, not for diagnosis" in page
    assert "Reference, 70 scans" in page
    assert "Window, 30 scans" in page
    assert page.count("<svg") == page.count("</svg>") == len(found.shifts)
    assert "nan" not in re.sub(r"<[^>]+>", " ", page).lower().split()
    assert not re.search(r'="(nan|inf|-inf)"', page)
    for secret in ("000000000000000", "0000f"):  # keys of scans and labels
        assert secret not in page


def test_rates_of_reviews_are_those_of_the_runs_reviewed() -> None:
    def change(place: int, _: dict) -> dict:
        if place % 2:
            return {}
        return {"review": "corrected" if place % 4 else "accepted", "edited_ml": 1.0}

    page = render_monitor(compared(simulated(100, change=change)))
    assert "Corrected, of those reviewed</small><b>53%</b><span>8 of 15; reference" in page
    assert "no review known" not in page
    assert "no review known: --reviews adds them" in render_monitor(compared(simulated(100)))


def test_long_stores_are_thinned_before_the_window_only() -> None:
    # the thinning does not depend on what is compared
    lines = [{name: line[name] for name in ("time", "model", "noise")} for line in simulated(1000)]
    found = compared(lines, Choice("100"))
    timeline = Timeline(found.selection)
    assert len(timeline.drawn) <= MOST_DOTS + 1
    assert timeline.drawn[-100:] == [*range(900, 1000)]
    assert "one run of 3 is drawn; all count" in render_monitor(found)


def places(selection) -> list[int]:
    return [selection.parts.count(part) for part in ("reference", "window", "other")]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice("30"), [70, 30, 0]),
        (Choice("12d"), [76, 24, 0]),
        (Choice("30", "2026-03-10.."), [54, 30, 16]),
        (Choice("30", "..2026-03-20"), [38, 30, 32]),
        (Choice("30", "2026-03-10..2026-03-20"), [22, 30, 48]),
    ],
)
def test_windows_and_references(choice: Choice, expected: list[int]) -> None:
    assert places(select(simulated(100), choice)) == expected


def test_a_scan_counts_once_and_other_models_do_not() -> None:
    lines = simulated(100)
    again = [{**line, "time": line["time"] + timedelta(days=60)} for line in lines[:5]]
    other = [{**line, "model": "other"} for line in lines[:7]]
    found = select(sorted(lines + again + other, key=lambda one: one["time"]), Choice("30"))
    assert len(found.lines) == 100
    assert [line["time"] for line in found.lines[-5:]] == [line["time"] for line in again]
    assert found.notes == [
        "7 runs of other models left out: --model chooses which model is shown",
        "5 repeated runs of the same scans left out: only the newest of each counts",
    ]


@pytest.mark.parametrize(
    ("choice", "count", "told"),
    [
        (Choice("week"), 100, r"window: got 'week'; give a number of scans, such as 50, or of day"),
        (Choice("0"), 100, "window: got '0'"),
        (Choice("9"), 100, "window: 9 scans; at least 10 are needed; give a larger --window"),
        (Choice("50"), 60, "reference: 10 scans; at least 20 are needed; give a smaller --window"),
        (Choice("99999d"), 60, "reference: 0 scans; at least 20 are needed"),
        (Choice("30", "soon"), 100, "reference: got 'soon'; give two days, such as"),
        (Choice("30", "2026-03-20..2026-03-10"), 100, "the first day is after the last"),
        (Choice("30", "..2026-06-01"), 100, "reference: ends on 2026-06-01, but the window begins"),
        (Choice("30", "2027-01-01.."), 100, "reference: 0 scans; at least 20"),
        (Choice(model="toi"), 100, r"model: got 'toi' \(did you mean 'toy'\?\); the store has"),
        (Choice(), 0, "the store holds no run yet; segment scans with --monitor first"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choice: Choice, count: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        select(simulated(count), choice)
