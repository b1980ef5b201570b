"""Intervals, paired tests, corrections: against SciPy, by hand, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddmseg.errors import SettingsError
from ddmseg.maths.statistics import bootstrap_interval, compare_to, holm, pearson, wilcoxon

SCORES = np.random.default_rng(0).beta(20, 3, size=40)


# Bootstrap


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


# Paired tests


def test_wilcoxon_is_exact_for_few_patients():
    # All five differences positive: 2 of the 2^5 sign patterns are as extreme.
    assert wilcoxon([1.1, 2.2, 3.3, 4.4, 5.5], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


def test_wilcoxon_is_scipys_and_symmetric():
    other = SCORES + np.random.default_rng(4).normal(0.01, 0.02, size=40)
    p = wilcoxon(other, SCORES)
    assert p == pytest.approx(stats.wilcoxon(other - SCORES).pvalue)
    assert wilcoxon(SCORES, other) == pytest.approx(p)


def test_ties_that_rounding_would_break_stay_ties():
    a, b = [0.9, 0.3, 0.5, 0.7, 0.8], [0.8, 0.2, 0.6, 0.6, 0.7]
    exact = wilcoxon([1.0, 1.0, -1.0, 1.0, 1.0], [0.0] * 5)
    assert wilcoxon(a, b) == pytest.approx(exact)


def test_equal_methods_do_not_differ():
    assert wilcoxon(SCORES, SCORES) == 1.0


def test_patients_without_a_score_leave_as_a_pair():
    a, b = SCORES.copy(), SCORES + 0.01 * np.arange(40)
    a[3] = b[5] = math.nan
    known = [i for i in range(40) if i not in (3, 5)]
    assert wilcoxon(a, b) == wilcoxon(a[known], b[known])


def test_unpaired_values_are_refused():
    with pytest.raises(SettingsError, match=r"got shapes \(3,\) and \(2,\); .* the same patients"):
        wilcoxon([1, 2, 3], [1, 2])
    with pytest.raises(SettingsError, match="paired test: got 1 patient;"):
        wilcoxon([1], [2])


# Holm


def test_holm_by_hand():
    # 4 x .005, 3 x .01, 2 x .03, and .04 held up by the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_laws(p):
    corrected = holm(p)
    m = len(p)
    for raw, adjusted in zip(p, corrected, strict=True):
        assert raw <= adjusted <= min(1.0, m * raw) + 1e-15  # at most Bonferroni
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    # The definition: reject at level a while p_(i) <= a / (m - i)
    for level in (0.01, 0.05, 0.2):
        rejected = 0
        while rejected < m and p[order[rejected]] * (m - rejected) <= level:
            rejected += 1
        assert sum(q <= level for q in corrected) == rejected


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_probability(bad):
    with pytest.raises(SettingsError, match=r"p_values: got .* each must lie in \[0, 1\]"):
        holm([0.5, bad])


def test_a_table_of_methods_is_corrected_together():
    rng = np.random.default_rng(5)
    methods = {
        "better": SCORES + 0.05 + rng.normal(0, 0.01, 40),
        "same": SCORES + rng.normal(0, 0.01, 40),
    }
    rows = compare_to(SCORES, methods)
    assert list(rows) == ["better", "same"]
    assert rows["better"].difference == pytest.approx(0.05, abs=0.01)
    assert rows["better"].p_holm == pytest.approx(2 * rows["better"].p)
    assert rows["better"].p_holm < 1e-6
    assert rows["same"].p_holm > 0.05
    assert rows["same"].n == 40


# Correlation


def test_pearson_is_scipys():
    other = SCORES**2 + np.random.default_rng(6).normal(0, 0.05, 40)
    assert pearson(SCORES, other) == pytest.approx(stats.pearsonr(SCORES, other).statistic)


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_pearson_does_not_see_scale_or_offset(scale, offset):
    assert pearson(SCORES, scale * SCORES + offset) == pytest.approx(1.0)
    assert pearson(SCORES, -scale * SCORES + offset) == pytest.approx(-1.0)


def test_pearson_of_a_constant_is_not_a_number():
    assert math.isnan(pearson([1, 2, 3], [5, 5, 5]))


def test_pearson_of_one_patient_is_refused():
    with pytest.raises(SettingsError, match="correlation: got 1 patient;"):
        pearson([1.0], [2.0])


def test_rounding_of_the_values_does_not_move_the_interval():
    values = np.array([0.8, 0.8, 0.7, 0.9, 0.7, 0.6, 0.9, 0.8]) + 0.1 / 3
    shaken = values + 1e-14 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    one, two = bootstrap_interval(values), bootstrap_interval(shaken)
    assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9)
