"""What may be said: intervals and tests against references, and words that follow the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ddmseg.maths.statistics import bootstrap_interval
from ddmseg_lab.page import with_interval
from ddmseg_lab.rows import Rows
from ddmseg_lab.statistics import holm
from ddmseg_lab.statistics_text import (
    Comparison,
    against_words,
    compare_sets,
    equivalence_words,
    interval,
    too_few,
)

GENERATOR = np.random.default_rng(0)
BASE = GENERATOR.normal(0.8, 0.05, 20)
SHIFTS = {"same": 0.0, "up": 0.02, "down": -0.03}
VALUES = {name: BASE + shift + GENERATOR.normal(0, 0.004, 20) for name, shift in SHIFTS.items()}


def made(patients: int = 20) -> Rows:
    """The reference and three conditions of which two differ."""
    rows = [
        {"subject": f"s{i}", "kind": name, "dice": float(values[i])}
        for i in range(patients)
        for name, values in {"base": BASE, **VALUES}.items()
    ]
    return Rows(tuple(rows))


def test_intervals_are_those_of_the_statistics():
    found = made().where(kind="base").mean("dice")
    assert found == bootstrap_interval(BASE)
    one = interval([0.4, math.nan, math.inf])
    assert (one.mean, one.n) == (0.4, 1)
    assert math.isnan(one.low)
    assert math.isnan(interval([]).mean)


def test_comparisons_are_paired_and_corrected():
    found = made().compare("dice", "kind", "base")
    p = [stats.wilcoxon(VALUES[name] - BASE).pvalue for name in SHIFTS]
    assert list(found) == list(SHIFTS)
    for name, expected in zip(SHIFTS, holm(p), strict=True):
        assert found[name].p_holm == pytest.approx(expected)
        assert found[name].difference.mean == pytest.approx((VALUES[name] - BASE).mean())
    assert [one.found for one in found.values()] == [False, True, True]


def test_a_patient_without_both_is_left_out():
    reference = {"a": 0.5, "b": 0.6, "c": math.nan, "d": 0.1}
    found = compare_sets(reference, {"x": {"a": 0.6, "b": 0.7, "c": 0.9}})["x"]
    assert found.difference.n == 2
    assert found.difference.mean == pytest.approx(0.1)


def test_words_follow_the_numbers():
    words = against_words(made().compare("dice", "kind", "base"), what="Dice", reference="base")
    up, down, rest = words.split(". ")
    assert up.startswith("Against base, Dice is higher with up (+0.0")
    assert down.startswith("Against base, Dice is lower with down (−0.0")
    assert rest.startswith("For the rest no effect on Dice was found: the difference from base is")


def test_no_effect_is_said():
    found = {name: made().compare("dice", "kind", "base")["same"] for name in ("x", "y")}
    words = against_words(found, what="Dice", reference="base")
    assert words.startswith("No effect on Dice was found: the differences from base are at most 0.")
    assert words.endswith("or more).")


def test_too_few_patients_cannot_tell():
    found = made(2).compare("dice", "kind", "base")
    assert too_few(found) == 2
    words = against_words(found, what="Dice", reference="base")
    assert words.startswith("With 2 patients no test can find a difference of Dice from base")
    alone = against_words(made(1).compare("dice", "kind", "base"), what="Dice", reference="base")
    assert alone.startswith("With 1 patient no test")
    assert against_words({}, what="Dice", reference="base").startswith("There is nothing")


@pytest.mark.parametrize(("patients", "tests", "few"), [(5, 1, True), (6, 1, False), (6, 2, True)])
def test_how_many_are_too_few(patients, tests, few):
    """The least p-value of so many patients, times the number of tests, against 0.05."""
    difference = stats.wilcoxon(np.arange(1, patients + 1)).pvalue
    assert (tests * difference >= 0.05) == few
    one = Comparison(interval([0.1] * patients), 1.0)
    assert (too_few({str(i): one for i in range(tests)}) is not None) == few


def test_pooled_statistics_draw_whole_patients():
    rows = Rows(
        tuple(
            {"subject": f"s{i}", "x": float(i), "y": float(i % 3)} for i in range(12) for _ in "ab"
        )
    )
    found = rows.pooled(lambda table: float(table[:, 0].mean()), "x", "y")
    assert found.mean == pytest.approx(5.5)
    assert found.n == 12
    spread = np.arange(12).std() / math.sqrt(12)
    assert found.low == pytest.approx(5.5 - 1.96 * spread, abs=0.25)
    assert found.high == pytest.approx(5.5 + 1.96 * spread, abs=0.25)


def test_pooled_of_few_or_nothing():
    one = Rows(({"subject": "a", "x": 1.0},)).pooled(lambda t: float(len(t)), "x")
    assert (one.mean, one.n) == (1.0, 1)
    assert with_interval(one) == "1.000"
    assert with_interval(Rows(()).pooled(lambda t: 1.0, "x")) == "–"
    rows = Rows(tuple({"subject": s, "x": 1.0} for s in "abc"))
    assert math.isnan(rows.pooled(lambda t: math.nan, "x").low)


def test_what_is_equivalent_is_said_and_nothing_else():
    scores = np.random.default_rng(0).uniform(0.8, 0.9, 30)
    reference = {f"p{i}": x for i, x in enumerate(scores)}
    noise = np.random.default_rng(1).normal(0, 0.002, 30)
    others = {
        "alike": {f"p{i}": x + noise[i] for i, x in enumerate(scores)},
        "worse": {f"p{i}": x - 0.02 + noise[i] for i, x in enumerate(scores)},
        "hardly tested": {"p0": scores[0]},
    }
    words = equivalence_words(reference, others, margin=0.005, name="*plain*")
    assert words.startswith("Equivalent to *plain* within 0.005, by two one-sided")
    assert words.endswith("Holm-corrected: alike (p < 0.001).")
    rest = {name: one for name, one in others.items() if name != "alike"}
    assert equivalence_words(reference, rest, margin=0.005, name="*plain*") == ""
