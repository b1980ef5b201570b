"""The monotone map of expected Dice."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.maths.calibration import (
    DiceCalibration,
    conformal_bound,
    fit_calibration,
)

TRUTH = DiceCalibration(a=2.0, b=0.6, c=-0.4)
SLOPES, OFFSETS = st.floats(0.05, 5), st.floats(-4, 4)


def results(seed: int = 0, count: int = 60, spread: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Raw expected Dice and true Dice that lie about a known map."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0.4, 0.97, count)
    return expected, np.clip(TRUTH(expected) + rng.normal(0, spread, count), 0, 1)


def error(expected: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(expected - true).mean())


def test_the_fit_finds_a_known_map():
    expected, true = results(spread=0.0)
    calibration = fit_calibration(expected, true)
    assert error(expected, true) > 0.08
    assert error(calibration(expected), true) < 0.02
    x = np.linspace(0.4, 0.97, 50)
    assert np.allclose(calibration(x), TRUTH(x), atol=0.03)


def test_it_holds_on_results_it_has_not_seen():
    seen = results(seed=1, count=30, spread=0.03)
    expected, true = results(seed=2, spread=0.03)
    found = error(fit_calibration(*seen)(expected), true)
    assert found < 0.05
    assert found < 0.5 * error(*seen)


def test_calibrated_values_need_no_change():
    expected = np.linspace(0.2, 0.98, 40)
    assert error(fit_calibration(expected, expected)(expected), expected) < 0.01


def test_correlation_survives():
    expected, true = results(spread=0.02)
    calibration = fit_calibration(expected, true)
    assert np.corrcoef(calibration(expected), true)[0, 1] > np.corrcoef(expected, true)[0, 1] - 0.02


@given(SLOPES, SLOPES, OFFSETS)
def test_every_map_is_monotone_and_stays_in_range(a, b, c):
    y = DiceCalibration(a, b, c)(np.linspace(0, 1, 201))
    assert ((y >= 0) & (y <= 1)).all()
    assert (np.diff(y) >= 0).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_every_fit_is_monotone_even_on_nonsense(pairs):
    expected, true = zip(*pairs, strict=True)
    y = fit_calibration(expected, true)(np.linspace(0.001, 0.999, 101))
    assert (np.diff(y) >= 0).all()
    assert np.isfinite(y).all()


def test_beyond_the_data_it_runs_on_to_the_ends():
    # Fitted on good results only; a ruined one must still be seen as ruined.
    expected = np.linspace(0.85, 0.95, 30)
    calibration = fit_calibration(expected, expected - 0.02)
    assert calibration.of(0.05) < 0.1
    assert calibration.of(0.999) > 0.98


def test_reversed_data_do_not_reverse_the_map():
    expected = np.linspace(0.3, 0.9, 30)
    calibration = fit_calibration(expected, 1 - expected)
    assert calibration.of(0.9) > calibration.of(0.3)


def test_equal_results_give_the_map_that_moves_least():
    calibration = fit_calibration([0.9, 0.9, 0.9], [0.8, 0.8, 0.8])
    assert calibration.of(0.9) == pytest.approx(0.8, abs=0.01)


def test_the_identity_changes_nothing():
    x = np.linspace(0.001, 0.999, 50)
    assert np.allclose(DiceCalibration()(x), x)
    assert DiceCalibration().of(0.0) < 1e-3
    assert DiceCalibration().of(1.0) > 1 - 1e-3
    assert math.isnan(DiceCalibration().of(math.nan))


def test_pairs_without_a_score_are_left_out():
    expected, true = results()
    fit = fit_calibration([*expected, 0.5, math.nan], [*true, math.nan, 0.5])
    assert fit == fit_calibration(expected, true)


def test_the_card_keeps_it():
    calibration = fit_calibration(*results())
    card = json.loads(json.dumps(calibration.as_dict()))
    assert DiceCalibration.from_dict(card) == calibration
    assert sorted(card) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("expected", "true", "message"),
    [
        ([0.5, 0.6], [0.5], r"got shapes \(2,\) and \(1,\); give one expected"),
        ([0.5], [0.5], "got 1 results; at least 2 are needed"),
        ([0.5, 1.2], [0.5, 0.5], r"expected: got 0.5 to 1.2; Dice must lie in \[0, 1\]"),
        ([0.5, 0.6], [0.5, -0.1], "true: got -0.1 to 0.5"),
    ],
)
def test_fit_refuses(expected, true, message):
    with pytest.raises(SettingsError, match=message):
        fit_calibration(expected, true)


def test_a_map_that_turns_the_order_around_is_refused():
    with pytest.raises(SettingsError, match="a=0, b=1, c=0; a and b must be above 0"):
        DiceCalibration(a=0.0)


@pytest.mark.parametrize(("count", "place"), [(19, 19), (20, 20), (39, 38), (60, 58), (99, 95)])
def test_the_conformal_bound_is_the_score_of_that_rank(count: int, place: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert conformal_bound(scores, 0.95) == place


def test_too_few_cases_bound_nothing() -> None:
    assert conformal_bound(range(18), 0.95) == math.inf
    assert conformal_bound([], 0.5) == math.inf


@pytest.mark.parametrize("seed", range(3))
def test_a_new_case_lies_below_the_bound_as_often_as_promised(seed: int) -> None:
    """Exactly place / (n + 1) for continuous scores; here over many draws, within five SD."""
    drawn = np.random.default_rng(seed).exponential(size=(400, 40))
    inside = [new <= conformal_bound(old, 0.9) for *old, new in drawn.tolist()]
    assert np.mean(inside) == pytest.approx(36 / 40, abs=5 * math.sqrt(0.1 * 0.9 / 400))
