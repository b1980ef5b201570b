"""Targets judged right both ways, and figures as they stand on the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg_lab.page import (
    NO_FIGURE,
    NOT_MEASURED,
    Chapter,
    Claim,
    Section,
    Target,
    p_value,
    table,
    with_interval,
)

LEAST = Target("Dice", 0.89)
MOST = Target("fast", 5.0, at_least=False, unit=" s", digits=2)


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [
        (LEAST, 0.90, "reached, 0.010 to spare"),
        (LEAST, 0.89, "reached, just"),
        (LEAST, 0.88, "**missed by 0.010**"),
        (MOST, 4.0, "reached, 1.00 s to spare"),
        (MOST, 7.5, "**missed by 2.50 s**"),
    ],
)
def test_the_verdict_says_by_how_much(target, value, said):
    assert target.verdict(value) == said


@given(st.floats(-2, 2), st.floats(-2, 2), st.booleans())
def test_a_target_is_reached_exactly_when_it_is(bound, value, at_least):
    reached = value >= bound if at_least else value <= bound
    assert Target("x", bound, at_least).verdict(value).startswith("reached") == reached


def test_a_claim_shows_bound_value_and_verdict():
    measured = {"mean": 0.9, "low": 0.88, "high": 0.92}
    row = ["Dice", "at least 0.890", "0.900 (0.880 to 0.920)", "reached, 0.010 to spare"]
    assert Claim(LEAST, measured).row() == row
    assert Claim(MOST, 6.0).row() == ["fast", "at most 5.00 s", "6.00 s", "**missed by 1.00 s**"]


def test_timings_are_judged_by_their_median():
    assert Claim(MOST, {"median": 4.0, "low": 3.0, "high": 6.0}).value == 4.0


@pytest.mark.parametrize("nothing", [None, {"mean": None, "low": None, "high": None}])
def test_what_was_not_measured_has_no_verdict(nothing):
    assert Claim(LEAST, nothing).row()[2:] == [NOT_MEASURED, NOT_MEASURED]


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        ({"mean": 0.5, "low": 0.25, "high": 0.75}, "0.500 (0.250 to 0.750)"),
        ({"mean": -0.5, "low": None, "high": None}, "−0.500"),
        ({"mean": 2.0, "infinite": 3}, "2.000, 3 missed"),
        ({"difference": 0.5, "low": 0.25, "high": 0.75, "p": 0.1}, "0.500 (0.250 to 0.750)"),
        ({"rate": 0.5, "n": 4}, "0.500"),
        ({"mean": None}, NO_FIGURE),
        (None, NOT_MEASURED),
    ],
)
def test_a_mean_stands_with_its_interval(measured, shown):
    assert with_interval(measured) == shown


def test_every_row_of_a_table_has_a_cell_for_each_column():
    lines = table(["a", "b", "c"], [["1", "2", "3"], ["4", "5", "6"]]).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {4}


def test_small_p_values_are_not_written_as_zero():
    assert p_value(0.0009) == "< 0.001"
    assert p_value(1.0) == "1.000"


def test_a_chapter_has_command_targets_and_body_in_this_order():
    text = Section("name", "Title", "python -m x", ["Body."], [Claim(LEAST, 0.9)]).markdown()
    places = [text.index(part) for part in ("# Title", "python -m x", "at least", "Body.")]
    assert places == sorted(places)


def test_a_chapter_is_made_of_its_summary_and_says_so_without_one():
    chapter = Chapter(
        "Title",
        "python -m x",
        "record",
        lambda found: [f"Over {found['n']} scans."],
        lambda found: [Claim(LEAST, found.get("dice"))],
    )
    without = chapter.section(None)
    assert (without.name, without.link, without.measured) == ("record", "", False)
    assert without.claims[0].row()[2:] == [NOT_MEASURED, NOT_MEASURED]
    assert chapter.section({"n": 7}).link == "[Title](studies/record.md)"
    measured = chapter.section({"n": 7, "dice": 0.9}).markdown()
    assert measured.startswith("# Title\n\n```\npython -m x\n```")
    assert "| Dice | at least 0.890 | 0.900 | reached, 0.010 to spare |" in measured
    assert measured.endswith("Over 7 scans.\n")
