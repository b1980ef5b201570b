"""How a cost grows with a size: a power law fitted on logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Coverage of the interval."""


@dataclass(frozen=True)
class PowerLaw:
    """``cost = factor * size ** exponent``.

    Attributes:
        exponent: 1 where twice the size costs twice as much; NaN for fewer than two sizes.
        low: end of the 95% interval of the exponent; NaN for fewer than three sizes.
        high: its other end.
        factor: cost at size 1.
        n: sizes that counted.
    """

    exponent: float
    low: float
    high: float
    factor: float
    n: int


def fit_power_law(sizes: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """Fit a power law by least squares of log cost on log size.

    The interval is Student's, for errors that are normal on the logarithms. What is NaN or
    not above 0 has no logarithm and is left out. What a run costs whatever its size lowers
    the exponent: it is that of the range measured and no promise beyond it.

    Args:
        sizes: one a measurement, such as voxels.
        costs: seconds or GB.

    Source: Montgomery, Peck and Vining 2012, Introduction to Linear Regression Analysis,
    section 2.4.
    """
    from scipy import stats

    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    x, y = np.log(x[usable]), np.log(y[usable])
    n = len(x)
    if len(np.unique(x)) < 2:
        return PowerLaw(math.nan, math.nan, math.nan, math.nan, n)
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    intercept = float(y.mean() - slope * x.mean())
    half = math.nan
    if n > 2:
        residuals = y - intercept - slope * x
        error = math.sqrt(float(residuals @ residuals) / (n - 2) / spread)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 2)) * error
    return PowerLaw(slope, slope - half, slope + half, math.exp(intercept), n)
