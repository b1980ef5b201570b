"""Shifts: agreement with SciPy, laws, the alarm rate, and what is named when something moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ddmseg.errors import SettingsError
from ddmseg.maths.shift import (
    Shift,
    change_point,
    find_shifts,
    is_alarm,
    population_stability,
    shifted,
)

SEEDS = st.integers(0, 10**6)


def parts(reference: int, window: int) -> np.ndarray:
    return np.arange(reference + window) >= reference


def only(values: np.ndarray, window: np.ndarray, **options) -> Shift:
    (found,) = find_shifts(window, numbers={"x": values}, categories={}, **options)
    return found


def correlated(count: int, generator: np.random.Generator, numbers: int = 8) -> np.ndarray:
    """One factor behind all columns, some of them skewed, one of few values."""
    x = generator.normal(size=(count, numbers)) + 1.5 * generator.normal(size=(count, 1))
    x[:, 1] = np.exp(x[:, 1])
    x[:, 2] = np.round(x[:, 2])
    return x


@settings(max_examples=20)
@given(SEEDS, st.booleans())
def test_the_distance_is_that_of_scipy_ties_included(seed: int, tied: bool) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=70)
    x = np.round(x) if tied else x
    window = generator.permutation(parts(45, 25))
    expected = stats.ks_2samp(x[~window], x[window])
    assert only(x, window, permutations=19).ks == pytest.approx(expected.statistic)


def test_p_of_a_category_is_that_of_a_permuted_chi_square() -> None:
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 3, 90)
    window = parts(60, 30)
    codes[window] = generator.choice(3, 30, p=(0.5, 0.3, 0.2))
    (found,) = find_shifts(window, numbers={}, categories={"c": codes}, permutations=3999)

    def chi_square(x: np.ndarray, y: np.ndarray) -> float:
        table = [np.bincount(part, minlength=3) for part in (x, y)]
        return float(stats.chi2_contingency(table, correction=False).statistic)

    expected = stats.permutation_test(
        (codes[~window], codes[window]),
        chi_square,
        n_resamples=400,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    assert found.p == pytest.approx(expected.pvalue, abs=0.06)
    assert math.isnan(found.ks)


@settings(max_examples=20)
@given(SEEDS)
def test_window_and_reference_may_be_swapped(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=60)
    window = parts(30, 30)
    one, other = (only(x, inside, permutations=19) for inside in (window, ~window))
    assert one.ks == pytest.approx(other.ks)
    assert one.psi == pytest.approx(other.psi)


@settings(max_examples=20)
@given(SEEDS)
def test_units_and_monotone_scales_do_not_matter(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=70)
    window = parts(40, 30)
    first = only(x, window, permutations=99)
    for y in (np.exp(x), 1000 * x - 7, np.arctan(x)):
        assert only(y, window, permutations=99) == first


@settings(max_examples=20)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=10), SEEDS)
def test_the_stability_index_is_symmetric_and_0_for_equal_shares(counts, seed: int) -> None:
    a = np.array(counts)
    b = np.random.default_rng(seed).permutation(a)
    assert population_stability(a, a).item() == pytest.approx(0)
    assert population_stability(a, b).item() == pytest.approx(population_stability(b, a).item())
    assert population_stability(a, b).item() >= 0


def test_the_stability_index_by_hand() -> None:
    found = population_stability(np.array([79.5, 19.5]), np.array([49.5, 49.5]))
    expected = (0.5 - 0.8) * math.log(0.5 / 0.8) + (0.5 - 0.2) * math.log(0.5 / 0.2)
    assert found.item() == pytest.approx(expected)


def test_the_limit_of_the_stability_index_depends_on_the_number_of_scans() -> None:
    generator = np.random.default_rng(0)
    limits = []
    for size in (30, 300):
        window = parts(size, size)
        limits.append(only(generator.normal(size=2 * size), window).psi_limit)
    assert limits[0] > 0.25  # three times the 0.1 of the folklore: 30 scans say little
    assert limits[1] < 0.15
    bins = 10
    asymptotic = (2 / 300) * stats.chi2.isf(0.05, bins - 1)
    assert limits[1] == pytest.approx(asymptotic, rel=0.15)


def test_alarms_without_shift_keep_their_rate() -> None:
    """One factor behind all: what each p-value says by itself would alarm far more often."""
    generator = np.random.default_rng(20)
    window = parts(40, 20)
    alarms = naive = 0
    runs = 150
    for seed in range(runs):
        x = correlated(60, generator)
        found = find_shifts(
            window,
            numbers={str(k): column for k, column in enumerate(x.T)},
            categories={"c": generator.integers(0, 3, 60)},
            features={"f": generator.normal(size=(60, 4)) + x[:, :1]},
            permutations=99,
            seed=seed,
        )
        alarms += is_alarm(found)
        naive += any(shift.p <= 0.05 for shift in found)
    assert stats.binomtest(alarms, runs, 0.05).pvalue > 0.01
    assert naive > 2 * alarms


def test_the_distance_of_features_alone_keeps_the_rate_with_few_scans_for_many_channels() -> None:
    """New scans must not look strange only because the reference was fitted to the old ones."""
    generator = np.random.default_rng(4)
    window = parts(20, 15)
    runs = 120
    alarms = sum(
        is_alarm(
            find_shifts(
                window,
                numbers={},
                categories={},
                features={"f": generator.normal(size=(35, 16))},
                permutations=59,
                seed=seed,
            )
        )
        for seed in range(runs)
    )
    assert stats.binomtest(alarms, runs, 0.05).pvalue > 0.01


@pytest.mark.parametrize(
    "move",
    [lambda x: x + 1.2, lambda x: 4 * x, lambda x: x**2 + x],
    ids=["level", "spread", "shape"],
)
def test_a_shift_is_found_and_only_it_is_named(move) -> None:
    generator = np.random.default_rng(1)
    window = parts(80, 50)
    x = generator.normal(size=(130, 12))
    x[window, 5] = move(x[window, 5])
    found = find_shifts(window, numbers=dict(enumerate_columns(x)), categories={})
    assert is_alarm(found)
    assert [shift.name for shift in shifted(found)] == ["5"]


def enumerate_columns(x: np.ndarray):
    return ((str(k), column) for k, column in enumerate(x.T))


def test_moved_features_and_categories_are_found_too() -> None:
    generator = np.random.default_rng(2)
    window = parts(60, 30)
    features = generator.normal(size=(90, 6))
    features[window] += 1.5
    codes = np.where(window, 1, 0)
    found = find_shifts(window, numbers={}, categories={"c": codes}, features={"f": features})
    assert {shift.name for shift in shifted(found)} == {"c", "f"}
    assert {shift.kind for shift in found} == {"category", "distance"}


def test_what_cannot_be_tested_is_left_out() -> None:
    generator = np.random.default_rng(0)
    window = parts(30, 20)
    fine = generator.normal(size=50)
    sparse = np.where(window & (np.arange(50) > 35), math.nan, fine)
    found = find_shifts(
        window,
        numbers={"constant": np.ones(50), "nan": np.full(50, math.nan), "few": sparse, "x": fine},
        categories={"one": np.zeros(50, np.int64), "none": np.full(50, -1)},
        features={"flat": np.ones((50, 3)), "nan": np.full((50, 3), math.nan)},
        permutations=19,
    )
    assert [shift.name for shift in found] == ["x"]
    nothing = find_shifts(window, numbers={"c": np.ones(50)}, categories={})
    assert nothing == []
    assert not is_alarm(nothing)
    assert shifted(nothing) == []


def test_missing_values_are_counted_and_nearly_constant_columns_survive() -> None:
    window = parts(40, 20)
    x = np.zeros(60)
    x[:3] = -1.0
    x[50] = math.nan
    found = only(x, window)
    assert (found.n_reference, found.n_window) == (40, 19)
    assert found.ks == pytest.approx(3 / 40)
    assert found.p > 0.05


def test_equal_input_and_seed_give_equal_output_in_blocks_of_any_size(monkeypatch) -> None:
    x = np.random.default_rng(0).normal(size=50)
    first = only(x, parts(30, 20), permutations=99)
    assert only(x, parts(30, 20), permutations=99) == first
    assert only(x, parts(30, 20), permutations=99, seed=1) != first
    monkeypatch.setattr("ddmseg.maths.shift._BLOCK", 500)  # ten deals at a time
    assert only(x, parts(30, 20), permutations=99) == first


@pytest.mark.parametrize(
    ("reference", "window", "told"),
    [
        (30, 9, "window: 9 scans; at least 10 are needed"),
        (30, 1, "window: 1 scan; at least 10 are needed"),
        (19, 30, "reference: 19 scans; at least 20 are needed"),
    ],
)
def test_too_few_scans_are_refused(reference: int, window: int, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        only(np.arange(reference + window) * 1.0, parts(reference, window))


def test_too_few_permutations_are_refused() -> None:
    with pytest.raises(SettingsError, match="permutations: got 18; it must be at least 19"):
        only(np.arange(50.0), parts(30, 20), permutations=18)


@settings(max_examples=20)
@given(st.integers(8, 40), SEEDS)
def test_a_jump_is_dated_where_it_happens(place: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=50)
    x[place:] += 30
    assert change_point(x) == place


def test_a_change_of_spread_is_dated_missing_values_are_passed_over() -> None:
    x = np.tile([-1.0, 1.0], 40)
    x[50:] *= 20
    assert change_point(x) == 50
    x[[3, 20, 21]] = math.nan
    assert change_point(x) == 50
    spiked = np.concatenate([np.zeros(30), np.ones(30)]) + 0.01 * np.arange(60)
    spiked[5] = 1000.0
    assert change_point(spiked) == 30
    assert change_point(np.array([0.0] * 60 + [1.0, 1.0])) == 60  # rarer than what is drawn in
    assert change_point(np.full(9, math.nan)) == 0
    assert change_point(np.ones(9)) == 0
