"""One monotone map that turns the expected Dice into an honest one.

The expected Dice summed from exp(-D / sigma_D^2) ranks results well but sits too high or
too low, since training weighs wrong voxels up.  With x the raw value and q the corrected:

    logit q = a log x - b log(1 - x) + c,    a, b > 0

fitted on validation subjects, intact and corrupted.  It is smooth, keeps the order, stays
in [0, 1], and far from the data runs on towards 0 and 1 instead of stopping at the worst
subject seen, as an isotonic fit would.  The identity is a = b = 1, c = 0.

Source: Kull, Silva Filho and Flach 2017, Electronic Journal of Statistics 11:5052 (beta
calibration), fitted to fractions by the quasi-likelihood of Papke and Wooldridge 1996.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ddmseg.errors import SettingsError

Fractions = Sequence[float | int] | NDArray[Any]
"""Dice values, one a result, in [0, 1]."""
Array = NDArray[np.float64]

_EDGE = 1e-4  # keeps the logarithms finite at 0 and 1
_SMALLEST_SLOPE = 0.05  # below, the map would be flat and tell nothing apart
_RIDGE = 0.02  # pull towards the identity, in log-likelihood of a result; fades with data


@dataclass(frozen=True)
class DiceCalibration:
    """The map from raw to calibrated expected Dice; call it on a number or an array.

    Attributes:
        a: slope of log x, above 0.
        b: slope of -log(1 - x), above 0.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0 and math.isfinite(self.a + self.b + self.c)):
            raise SettingsError(
                f"calibration: got a={self.a:g}, b={self.b:g}, c={self.c:g}; "
                "a and b must be above 0 and all finite, so fit it anew"
            )

    def __call__(self, expected: float | int | NDArray[Any]) -> Array:
        """Return the calibrated value, in [0, 1], of a number as a 0-d array; NaN stays NaN."""
        x = np.clip(np.asarray(expected, dtype=np.float64), _EDGE, 1 - _EDGE)
        return np.asarray(expit(self.a * np.log(x) - self.b * np.log1p(-x) + self.c))

    def of(self, expected: float) -> float:
        """Return the calibrated value of one number as a float."""
        return float(self(expected))

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers, ready for a card in JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> DiceCalibration:
        """Read what ``as_dict`` wrote, of a card that was checked as it was read."""
        return cls(**numbers)


def fit_calibration(expected: Fractions, true: Fractions) -> DiceCalibration:
    """Fit the map on validation results; pairs with NaN are left out.

    The fit is convex, so it has one answer; a slight pull towards the identity decides
    where the data do not, such as when all are equal.

    Raises:
        SettingsError: for other than two or more pairs in [0, 1].
    """
    x, y = _checked(expected, true)
    x = np.clip(x, _EDGE, 1 - _EDGE)
    design = np.stack([np.log(x), -np.log1p(-x), np.ones_like(x)], axis=1)
    identity = np.array([1.0, 1.0, 0.0])

    def loss(w: Array) -> tuple[float, Array]:
        z = design @ w
        cross_entropy = np.logaddexp(0, z) - y * z
        pull = w - identity
        gradient = (design.T @ (expit(z) - y) + 2 * _RIDGE * pull) / len(y)
        return float(cross_entropy.sum() + _RIDGE * pull @ pull) / len(y), gradient

    slope = (_SMALLEST_SLOPE, None)
    bounds = [slope, slope, (None, None)]
    found = minimize(loss, identity, jac=True, method="L-BFGS-B", bounds=bounds)
    return DiceCalibration(*found.x.tolist())


def _checked(expected: Fractions, true: Fractions) -> tuple[Array, Array]:
    x, y = np.asarray(expected, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise SettingsError(
            f"calibration: got shapes {x.shape} and {y.shape}; "
            "give one expected and one true Dice for each result"
        )
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2:
        raise SettingsError(f"calibration: got {len(x)} results; at least 2 are needed")
    for name, values in (("expected", x), ("true", y)):
        if values.min() < 0 or values.max() > 1:
            told = f"{name}: got {values.min():g} to {values.max():g}"
            raise SettingsError(f"{told}; Dice must lie in [0, 1]")
    return x, y


def conformal_bound(scores: Sequence[float] | NDArray[Any], coverage: float) -> float:
    """Return the score below which that of a new case lies with at least this probability.

    Holds for whatever the scores are, as long as the new case is drawn like the others. It is the
    ceil((n + 1) coverage)-th smallest score; infinite when the cases are too few.

    Source: split conformal prediction, Vovk, Gammerman and Shafer 2005; Lei et al. 2018,
    arXiv 1604.04173, theorem 2.2.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    # Rounding must not lift a whole number to the next one.
    place = math.ceil((len(ordered) + 1) * coverage - 1e-9)
    return float(ordered[place - 1]) if place <= len(ordered) else math.inf
