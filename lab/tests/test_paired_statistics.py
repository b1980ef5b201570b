"""Intervals, paired tests, corrections: against SciPy, by hand, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddmseg.errors import SettingsError
from ddmseg_lab.statistics import equivalence, holm, pearson, wilcoxon
from ddmseg_lab.statistics_text import paired_tests

SCORES = np.random.default_rng(0).beta(20, 3, size=40)


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
    rows = paired_tests(SCORES.tolist(), {name: one.tolist() for name, one in methods.items()})
    assert list(rows) == ["better", "same"]
    better, same = rows.values()
    assert better["difference"] == pytest.approx(0.05, abs=0.01)
    assert better["low"] < better["difference"] < better["high"]
    assert better["p_holm"] == pytest.approx(2 * better["p"])
    assert better["p_holm"] < 1e-6
    assert same["p_holm"] > 0.05
    assert same["n"] == 40


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


# Equivalence


def test_equivalence_is_the_worse_of_two_one_sided_tests():
    other = SCORES + np.random.default_rng(4).normal(0.001, 0.004, size=40)
    above = stats.wilcoxon(other - SCORES + 0.005, alternative="greater").pvalue
    below = stats.wilcoxon(other - SCORES - 0.005, alternative="less").pvalue
    found = equivalence(SCORES, {"other": other}, 0.005)["other"]
    assert found == pytest.approx(max(above, below))
    assert found < 0.001


@pytest.mark.parametrize(
    ("shift", "alike"), [(0.0, True), (0.003, True), (0.0065, False), (-0.02, False)]
)
def test_what_differs_by_the_margin_is_not_equivalent(shift, alike):
    other = SCORES + shift + np.random.default_rng(5).normal(0, 0.002, size=40)
    assert (equivalence(SCORES, {"other": other}, 0.005)["other"] < 0.05) is alike


def test_few_patients_show_no_equivalence():
    assert equivalence([0.8, 0.9, 0.7], {"same": [0.8, 0.9, 0.7]}, 0.005)["same"] == 1 / 8


def test_equivalence_is_corrected_for_the_number_of_methods():
    same = {str(n): SCORES[:6] for n in range(3)}
    assert equivalence(SCORES[:6], same, 0.005) == {name: 3 / 64 for name in same}
