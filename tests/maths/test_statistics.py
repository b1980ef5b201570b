"""Intervals, paired tests, corrections: against SciPy, by hand, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ddmseg.errors import SettingsError
from ddmseg.maths.statistics import bootstrap_interval

SCORES = np.random.default_rng(0).beta(20, 3, size=40)


def test_the_interval_is_close_to_students_for_a_normal_sample():
    x = np.random.default_rng(1).normal(5, 2, size=200)
    interval = bootstrap_interval(x)
    low, high = stats.t.interval(0.95, 199, x.mean(), stats.sem(x))
    assert interval.mean == pytest.approx(x.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05)
    assert (interval.n, interval.level) == (200, 0.95)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        interval = bootstrap_interval(rng.beta(8, 2, size=30), level=0.9, resamples=400)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.82 <= covered / 150 <= 0.97


def test_it_leans_towards_the_long_tail():
    x = np.random.default_rng(3).lognormal(0, 1, size=30)
    interval = bootstrap_interval(x)
    assert interval.high - interval.mean > 1.2 * (interval.mean - interval.low)


def test_the_seed_decides():
    first = bootstrap_interval(SCORES, seed=1, resamples=500)
    assert first == bootstrap_interval(SCORES, seed=1, resamples=500)
    assert first != bootstrap_interval(SCORES, seed=2, resamples=500)


def test_a_higher_level_is_wider():
    widths = [
        (i := bootstrap_interval(SCORES, level=level, resamples=2000)).high - i.low
        for level in (0.5, 0.9, 0.99)
    ]
    assert widths == sorted(widths)


def test_equal_values_give_a_point():
    interval = bootstrap_interval([0.75, 0.75, 0.75])
    assert (interval.low, interval.mean, interval.high) == (0.75, 0.75, 0.75)


def test_two_patients_are_enough():
    interval = bootstrap_interval([0.7, 0.9])
    assert 0.7 <= interval.low <= interval.mean <= interval.high <= 0.9


def test_nan_is_left_out_and_counted():
    with_nan = bootstrap_interval([*SCORES, math.nan, math.nan])
    assert with_nan == bootstrap_interval(SCORES)
    assert with_nan.n == 40


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.8], {}, "got 1 patient; at least 2 are needed, so report the single value"),
        ([0.8, math.nan], {}, "got 1 patient;"),
        ([], {}, "got 0 patients; at least 2"),
        ([0.8, math.inf], {}, "1 of 2 values are infinite .* count those"),
        ([[0.8, 0.9]], {}, r"got shape \(1, 2\); give one number a patient"),
        ([0.8, 0.9], {"level": 1.0}, "level: got 1; it must lie between 0 and 1"),
        ([0.8, 0.9], {"resamples": 10}, "resamples: got 10; it must be at least 100"),
    ],
)
def test_bootstrap_refuses(values, options, message):
    with pytest.raises(SettingsError, match=message):
        bootstrap_interval(np.array(values), **options)


def test_rounding_of_the_values_does_not_move_the_interval():
    values = np.array([0.8, 0.8, 0.7, 0.9, 0.7, 0.6, 0.9, 0.8]) + 0.1 / 3
    shaken = values + 1e-14 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    one, two = bootstrap_interval(values), bootstrap_interval(shaken)
    assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9)
