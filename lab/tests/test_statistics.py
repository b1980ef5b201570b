"""Means, intervals and tests of what was measured, with the patient as the unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.maths.statistics import bootstrap_interval
from ddmseg_lab.statistics import pearson, wilcoxon
from ddmseg_lab.statistics_text import (
    group_interval,
    mean_by_group,
    mean_interval,
    median_range,
    paired_tests,
)

DICE = [0.81, 0.9, 0.86, 0.77, 0.93, 0.88]


def correlation(pairs) -> float:
    return pearson(pairs[:, 0], pairs[:, 1])


def test_the_interval_is_that_of_the_package():
    found, truth = mean_interval(DICE), bootstrap_interval(DICE)
    assert (found["mean"], found["low"], found["high"]) == (truth.mean, truth.low, truth.high)
    assert found["n"] == 6
    assert "infinite" not in found


def test_nothing_to_score_is_left_out_and_a_missed_structure_is_counted():
    found = mean_interval([*DICE, math.nan, math.inf, math.inf])
    assert found["mean"] == pytest.approx(np.mean(DICE))
    assert found["n"] == 6
    assert found["infinite"] == 2


def test_one_patient_has_a_value_but_no_interval():
    found = mean_interval([0.8])
    assert found["mean"] == 0.8
    assert math.isnan(found["low"])


def test_no_patient_has_no_value():
    found = mean_interval([math.nan])
    assert math.isnan(found["mean"])
    assert found["n"] == 0


@settings(max_examples=20)  # each draws ten thousand samples
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_mean_lies_in_its_interval(values):
    found = mean_interval(values)
    assert found["low"] - 1e-9 <= found["mean"] <= found["high"] + 1e-9


def test_differences_are_method_less_reference_and_holm_corrected():
    better, same = [d + 0.02 for d in DICE], list(DICE)
    found = paired_tests(DICE, {"better": better, "same": same})
    assert found["better"]["difference"] == pytest.approx(0.02)
    assert found["better"]["low"] == pytest.approx(0.02)
    assert found["better"]["p_holm"] == pytest.approx(2 * wilcoxon(better, DICE))
    assert found["same"]["p_holm"] == 1.0


def test_one_patient_tests_nothing():
    assert paired_tests([0.8], {"other": [0.9]}) == {}


def test_two_scans_of_one_person_count_once():
    assert mean_by_group([0.2, 0.4, 0.9], ["b", "b", "a"]) == pytest.approx([0.9, 0.3])


def test_a_group_skips_what_it_cannot_score():
    means = mean_by_group([math.nan, 0.4, math.nan], ["a", "a", "b"])
    assert means[0] == 0.4
    assert math.isnan(means[1])


def test_a_statistic_over_groups_is_that_of_all_rows():
    generator = np.random.default_rng(1)
    x = generator.random(40)
    pairs = np.stack([x, x + 0.1 * generator.random(40)], axis=1)
    found = group_interval(correlation, pairs, [str(i // 4) for i in range(40)])
    assert found["mean"] == pytest.approx(np.corrcoef(pairs.T)[0, 1])
    assert found["low"] <= found["mean"] <= found["high"]
    assert found["n"] == 10


def test_masks_of_one_patient_are_drawn_together():
    # Rows of a patient are copies: taken for patients of their own they would look surer.
    generator = np.random.default_rng(2)
    pairs = np.repeat(generator.random((8, 2)), 5, axis=0)
    together = group_interval(correlation, pairs, [str(i // 5) for i in range(40)])
    apart = group_interval(correlation, pairs, [str(i) for i in range(40)])
    assert together["high"] - together["low"] > 1.5 * (apart["high"] - apart["low"])


def test_one_group_has_no_interval():
    found = group_interval(correlation, np.array([[0.0, 0.0], [1.0, 1.0]]), ["a", "a"])
    assert found["mean"] == pytest.approx(1.0)
    assert math.isnan(found["low"])


def test_the_median_of_timings_stands_with_their_range():
    assert median_range([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0, "n": 3}
