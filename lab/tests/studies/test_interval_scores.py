"""Scores by hand and by integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from ddmseg_lab.studies.interval_scores import Z, interval_score, lognormal_crps


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
