"""Sentences of a table: what its figures say, and nothing where they say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddmseg.errors import SettingsError
from ddmseg_lab.comparison.plan import TableSettings, read_plan
from ddmseg_lab.comparison.record import read_late_rise
from ddmseg_lab.comparison.table import TableRow, of_equal_standing
from ddmseg_lab.comparison.table_page import asked_of, differences_text

PATIENTS = [f"p{n:02d}" for n in range(20)]


def row(title, shift):
    """Patients differ; this row is better than another by the shift and a little chance."""
    dice = {p: 0.8 + 0.004 * n + shift + 0.0003 * ((7 * n) % 5 - 2) for n, p in enumerate(PATIENTS)}
    return TableRow(title, dice, True, [])


def table(**changes):
    return TableSettings("A study", ("a", "b", "c"), **{"references": ("a",), **changes})


def test_effects_and_their_absence_are_told():
    rows = {"a": row("base", 0.0), "b": row("better", 0.02), "c": row("same", 0.0)}
    rows["c"].dice.update(
        {p: rows["a"].dice[p] + (-1) ** n * 0.001 for n, p in enumerate(PATIENTS)}
    )
    words, alike = differences_text(table(), rows)
    assert words.startswith("Against *base*, mean Dice is higher with better (+0.0200")
    assert "For the rest no effect on mean Dice was found" in words
    assert alike.startswith("Equivalent to *base* within 0.005")
    assert "same (p" in alike
    assert "better" not in alike


def test_a_reference_that_was_not_run_says_nothing():
    assert list(differences_text(table(), {"b": row("better", 0.02)})) == []


def test_contrasts_are_first_less_second():
    rows = {"a": row("base", 0.0), "b": row("better", 0.02), "c": row("worse", -0.01)}
    _, heading, found = differences_text(table(contrasts=("b - c", "c - a", "b - d")), rows)
    assert heading.startswith("Pairs of rows")
    lines = found.splitlines()
    assert len(lines) == 4  # the pair whose row was not run is left out
    assert lines[2].startswith("| better − worse | +0.0300")
    assert lines[3].startswith("| worse − base | −0.0100")


def test_a_contrast_names_rows_of_the_table(tmp_path):
    (tmp_path / "a.toml").write_text('name = "a"\n')
    (tmp_path / "table.toml").write_text(
        'title = "t"\nrows = ["a"]\nreferences = ["a"]\ncontrasts = ["a - bb"]\n'
    )
    with pytest.raises(SettingsError, match=r"contrasts: got 'bb'.*allowed are a"):
        read_plan(tmp_path)


# Convergence


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("step,loss,sampled_dice,sampled_score", 0.25),
        ("step,loss,smoothed_pseudo_dice,other", 0.5),
        ("step,loss,sampled_dice,other", 0.5),  # of runs before there was a score
        ("step,loss,a,b", None),
    ],
)
def test_the_late_rise_is_of_what_chose_the_weights(tmp_path, header, expected):
    rows = ["25,1,,", "30,1,0.25,0.5", "60,1,0.125,0.25", "90,1,0.75,0.75"]
    (tmp_path / "curve.csv").write_text("\n".join([header, *rows]) + "\n")
    assert read_late_rise(tmp_path) == expected


@pytest.mark.parametrize("text", [None, "step,sampled_score\n", "step,sampled_score\n90,0.5\n"])
def test_too_short_a_curve_has_no_late_rise(tmp_path, text):
    if text is not None:
        (tmp_path / "curve.csv").write_text(text)
    assert read_late_rise(tmp_path) is None


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.0, 0.002, True),
        (0.1, 0.0021, True),
        (0.0, 0.0021, False),
        (None, 0.1, True),
        (-0.5, None, True),
    ],
)
def test_rows_of_equal_standing(one, other, equal):
    assert of_equal_standing(one, other) is equal
    assert of_equal_standing(other, one) is equal


def test_a_converged_row_is_not_tested_against_one_that_was_stopped_early():
    rows = {"a": row("base", 0.0), "b": row("better", 0.02), "c": row("early", -0.2)}
    rises = {"a": 0.001, "b": 0.0, "c": 0.1}
    rows = {name: replace(one, late_rise=rises[name]) for name, one in rows.items()}
    text = " ".join(differences_text(table(), rows))
    assert "better" in text
    assert "early" not in text


def test_what_was_asked_is_of_our_rows_that_have_converged():
    rows = {"a": row("plain", 0.0), "b": row("ddm", -0.001), "c": row("early", 0.1)}
    rises = {"a": 0.001, "b": 0.0, "c": 0.1}
    rows = {name: replace(one, late_rise=rises[name]) for name, one in rows.items()}
    asked = table(asked_dice=0.8, asked_pair="b - a")
    best, pair = asked_of(asked, rows)
    assert best.target.what == "A study: mean Dice of our best row"
    assert best.value == pytest.approx(np.mean(list(rows["a"].dice.values())))
    assert pair.target.what == "A study: Dice of `b` less that of `a`"
    assert pair.value == pytest.approx(-0.001)
    foreign = {name: replace(one, ours=False) for name, one in rows.items()}
    assert [claim.measured is None for claim in asked_of(asked, foreign)] == [True, False]
    assert [claim.measured for claim in asked_of(asked, {"c": rows["c"]})] == [None, None]
    assert list(asked_of(table(), rows)) == []


def test_an_asked_pair_names_rows_of_the_table(tmp_path):
    (tmp_path / "a.toml").write_text('name = "a"\n')
    (tmp_path / "table.toml").write_text(
        'title = "t"\nrows = ["a"]\nreferences = ["a"]\nasked_pair = "a - bb"\n'
    )
    with pytest.raises(SettingsError, match=r"asked_pair: got 'bb'.*allowed are a"):
        read_plan(tmp_path)
