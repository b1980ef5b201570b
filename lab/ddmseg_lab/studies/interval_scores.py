"""Proper scores of predictive intervals and distributions of a volume, and how one is fitted.

A predictive distribution here is log-normal: log v ~ N(middle, (reach / z)^2), whose central
95% interval is exp(middle -+ reach). With an interval [l, u] of level 1 - a and a true value y

    interval score = (u - l) + 2 / a (l - y)+ + 2 / a (y - u)+

Sources: Gneiting and Raftery 2007, eq. 43 (interval score); Baran and Lerch 2015, eq. 5 (CRPS of
a log-normal distribution); Papadopoulos, Gammerman and Vovk 2008 (normalised conformal
scores with a base).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ddmseg.maths.calibration import conformal_bound
from ddmseg.quality.volume_intervals import LEAST_SPREAD, MOST_SPREAD

COVERAGE = 0.95
Z = 1.959964  # standard deviations that a normal variable keeps within with this probability
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """What calibration says of one rival and structure.

    The log of a volume is predicted as ``log centre + bias + shift s -+ factor s``, where s is
    the spread, ``MOST_SPREAD`` times ``base`` at most, plus ``base``.

    ``bias`` is of the log, the same for all scans; shift and factor, half the width of the
    interval, are in units of the spread. With a base of 0 spreads are taken as they are: else it
    is the median spread, since that of a few answers is hardly known.
    """

    bias: float
    shift: float
    factor: float
    base: float = 0.0

    def scale(self, spread: Numbers) -> Numbers:
        """Return what the width of each interval is proportional to."""
        return scale(spread, self.base) if self.base else spread

    def middle(self, centre: Numbers, spread: Numbers) -> Numbers:
        """Return the middles of the log intervals."""
        return np.asarray(np.log(centre) + self.bias + self.shift * self.scale(spread))

    def reach(self, spread: Numbers) -> Numbers:
        """Return half the widths of the log intervals."""
        return np.asarray(self.factor * self.scale(spread))


def scale(spread: Numbers, base: float) -> Numbers:
    """Return spreads drawn towards their median: one to four times that."""
    return np.asarray(np.minimum(spread, MOST_SPREAD * base) + base)


def fitted(ratios: Numbers, spread: Numbers) -> Fit:
    """Fit the bias by the median of logs of true over found volume, and one conformal factor."""
    bias, base = float(np.median(ratios)), max(float(np.median(spread)), LEAST_SPREAD)
    scores = np.abs(ratios - bias) / scale(spread, base)
    return Fit(bias, 0.0, conformal_bound(scores, COVERAGE), base)


def fitted_as_shipped(ratios: Numbers, doubts: Numbers) -> Fit:
    """Fit bounds in units of doubt as cards have them; they hold the volume found itself."""
    scores = ratios / doubts
    middle = float(np.median(scores))
    reach = conformal_bound(np.abs(scores - middle), COVERAGE)
    low, high = min(middle - reach, 0.0), max(middle + reach, 0.0)
    return Fit(0.0, (low + high) / 2, (high - low) / 2)


def interval_score(low: Any, high: Any, true: Any) -> Any:
    """Return the width plus 40 times what the true value lies outside; less is better."""
    beyond = np.maximum(low - true, 0.0) + np.maximum(true - high, 0.0)
    return high - low + 2 / (1 - COVERAGE) * beyond


def lognormal_crps(middle: Numbers, reach: Numbers, true: Numbers) -> Numbers:
    """Return the CRPS of log-normal distributions around ``exp(middle)``; less is better."""
    s = np.asarray(reach) / Z
    z = (np.log(true) - middle) / s
    mean = np.exp(middle + s**2 / 2)
    return np.asarray(
        true * (2 * ndtr(z) - 1) - 2 * mean * (ndtr(z - s) + ndtr(s / np.sqrt(2)) - 1)
    )
