"""Scores by hand and by integration; what conformal prediction promises; the rule that ships."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from ddmseg.models.card import Card
from ddmseg.quality.volume_intervals import LEAST_SPREAD
from ddmseg.training.volume_calibration import SizedCase, volume_bounds
from ddmseg_lab.studies.interval_scores import (
    Z,
    fitted,
    fitted_as_shipped,
    interval_score,
    lognormal_crps,
)


def test_a_score_is_the_width_and_forty_times_what_lies_outside() -> None:
    found = interval_score(np.array([1.0, 1.0, 1.0]), np.array([3.0] * 3), np.array([2.0, 3.5, 0]))
    assert found.tolist() == pytest.approx([2.0, 2 + 40 * 0.5, 2 + 40 * 1.0])


@pytest.mark.parametrize(("middle", "reach", "true"), [(0.0, 0.4, 1.3), (2.0, 1.0, 4.0)])
def test_crps_is_the_integral_of_squared_distance_to_a_step(
    middle: float, reach: float, true: float
) -> None:
    x = np.linspace(1e-6, 100, 2_000_001)
    distance = ndtr((np.log(x) - middle) / (reach / Z)) - (x >= true)
    integral = float((distance**2).sum() * (x[1] - x[0]))
    found = lognormal_crps(np.array([middle]), np.array([reach]), np.array([true]))
    assert found[0] == pytest.approx(integral, rel=1e-3)


def test_crps_of_a_sure_prediction_is_its_error() -> None:
    found = lognormal_crps(np.array([0.0]), np.array([1e-6]), np.array([1.5]))
    assert found[0] == pytest.approx(0.5, abs=1e-5)


def test_an_interval_covers_new_cases_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        spread = generator.uniform(0.5, 2, 60)
        ratios = 0.1 + 0.05 * spread * generator.standard_t(3, 60)
        fit = fitted(ratios[:59], spread[:59])
        middle, reach = fit.middle(np.ones(1), spread[59:]), fit.reach(spread[59:])
        inside.append(abs(ratios[59] - middle[0]) <= reach[0])
    assert 0.93 < np.mean(inside) < 0.98


def test_a_spread_of_nothing_is_half_believed() -> None:
    ratios, spread = np.linspace(-0.1, 0.1, 21), np.ones(21)
    fit = fitted(ratios, spread)
    assert fit.reach(np.zeros(1))[0] == pytest.approx(fit.reach(np.ones(1))[0] / 2)
    assert fit.reach(np.full(1, 1e9))[0] == pytest.approx(2 * fit.reach(np.ones(1))[0])
    assert fitted(ratios, np.zeros(21)).reach(np.zeros(1))[0] == pytest.approx(0.1)
    assert fitted(ratios, np.zeros(21)).base == LEAST_SPREAD


def test_too_few_cases_bound_nothing() -> None:
    assert math.isinf(fitted(np.zeros(18), np.ones(18)).factor)
    assert not math.isinf(fitted(np.zeros(19), np.ones(19)).factor)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_rule_that_ships_is_that_of_the_card(shift: float) -> None:
    generator = np.random.default_rng(1)
    doubts = generator.uniform(0.1, 0.5, 40)
    ratios = doubts * (generator.normal(size=40) * 0.4 + shift)
    cases = [
        SizedCase((0, 1000), (0, 1000), (0, 1000 * d), (0, 1000), (0, 1000 * math.exp(r)))
        for d, r in zip(doubts, ratios, strict=True)
    ]
    low, high = volume_bounds(Card("toy", (0, 17), {}), cases)["volume_bounds"]["Left-Hippocampus"]
    fit = fitted_as_shipped(ratios, doubts)
    assert fit.shift - fit.factor == pytest.approx(low, abs=1e-3)
    assert fit.shift + fit.factor == pytest.approx(high, abs=1e-3)
