"""The mean of a table's scores with its interval.

The unit is the patient: one number a patient goes in.  NaN means "nothing to score" (a
structure that neither label map has, see ``metrics``) and is left out; ``n`` says how many
counted.  Infinities are refused, because no mean or rank of them is honest.

Source: Efron 1987, JASA 82:171-185 (BCa bootstrap).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ddmseg.errors import SettingsError

Values = Sequence[float | int] | NDArray[Any]
"""One number a patient."""

SMALLEST_SAMPLE = 2


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    ``level`` is the coverage, such as 0.95; ``n`` the number of patients that counted.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float


def bootstrap_interval(
    values: Values, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Return the mean over patients with its bootstrap interval (BCa).

    When the values are all equal the interval is that one value.

    Args:
        values: one number a patient, at least two that are not NaN.
        level: coverage, in (0, 1).
        resamples: bootstrap draws, at least 100.

    Raises:
        SettingsError: for fewer than two patients or an argument out of its range.

    Source: Efron 1987, JASA 82:171-185.
    """
    if not 0 < level < 1:
        raise SettingsError(f"level: got {level:g}; it must lie between 0 and 1, such as 0.95")
    if resamples < 100:
        raise SettingsError(f"resamples: got {resamples}; it must be at least 100")
    x = checked_sample(values, "bootstrap interval")
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean, len(x), level)
    with warnings.catch_warnings():  # of a degenerate acceleration: met by the fallback below
        warnings.simplefilter("ignore")
        low, high = _bootstrap(x, level, resamples, seed, "BCa")
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = _bootstrap(x, level, resamples, seed, "percentile")
    return Interval(mean, low, high, len(x), level)


def _bootstrap(
    x: NDArray[np.float64], level: float, resamples: int, seed: int, method: str
) -> tuple[float, float]:
    interval = stats.bootstrap(
        (x,),
        # Without its last digits: draws of equal patients in another order must tie.
        lambda x, axis=-1: np.round(np.mean(x, axis=axis), 12),
        confidence_level=level,
        n_resamples=resamples,
        method=method,
        vectorized=True,
        batch=1000,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def checked_sample(values: Values, purpose: str) -> NDArray[np.float64]:
    """One number a patient as an array without NaN, or the refusal."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise SettingsError(f"{purpose}: got shape {x.shape}; give one number a patient")
    x = x[~np.isnan(x)]
    if np.isinf(x).any():
        raise SettingsError(
            f"{purpose}: {int(np.isinf(x).sum())} of {len(x)} values are infinite (a structure "
            "was missed altogether); count those and pass the finite ones"
        )
    if len(x) < SMALLEST_SAMPLE:
        raise SettingsError(
            f"{purpose}: got {len(x)} patient{'s' * (len(x) != 1)}; at least "
            f"{SMALLEST_SAMPLE} are needed, so report the single value without it"
        )
    return x
