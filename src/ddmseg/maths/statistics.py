"""What a table of scores allows one to say: intervals, paired tests, correlation.

The unit is the patient: one number a patient goes in.  NaN means "nothing to score" (a
structure that neither label map has, see ``metrics``) and is left out; ``n`` says how many
counted.  Infinities are refused, because no mean or rank of them is honest.

Sources: Efron 1987 (BCa bootstrap); Wilcoxon 1945, Pratt 1959; Holm 1979.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class PairedTest:
    """One method against the reference on the same patients.

    ``difference`` is the mean of method minus reference; ``p`` the two-sided Wilcoxon
    p-value; ``p_holm`` the same after correction for all methods of the table.
    """

    difference: float
    p: float
    p_holm: float
    n: int


def bootstrap_interval(
    values: Values, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Return the mean over patients with its bootstrap interval (BCa).

    When the values are all equal the interval is that one value.  Equal input and seed
    give equal output.

    Args:
        values: one number a patient, at least two that are not NaN.
        level: coverage, in (0, 1).
        resamples: bootstrap draws, at least 100.
        seed: of the draws.

    Raises:
        SettingsError: for fewer than two patients or an argument out of its range.

    Source: Efron 1987, JASA 82:171-185.
    """
    if not 0 < level < 1:
        raise SettingsError(f"level: got {level:g}; it must lie between 0 and 1, such as 0.95")
    if resamples < 100:
        raise SettingsError(f"resamples: got {resamples}; it must be at least 100")
    x = _sample(values, "bootstrap interval")
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean, len(x), level)
    with warnings.catch_warnings():  # of a degenerate acceleration: met by the fallback below
        warnings.simplefilter("ignore")
        low, high = _bootstrap(x, level, resamples, seed, "BCa")
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = _bootstrap(x, level, resamples, seed, "percentile")
    return Interval(mean, low, high, len(x), level)


def wilcoxon(values: Values, reference: Values) -> float:
    """Return the two-sided p-value of a paired signed-rank test.

    A patient with NaN in either is left out.  Equal values throughout give 1.

    Raises:
        SettingsError: for fewer than two patients or unequal numbers of them.

    Source: Wilcoxon 1945; ties with zero difference kept as in Pratt 1959.
    """
    a, b = _pairs(values, reference, "paired test")
    if np.array_equal(a, b):
        return 1.0
    # Rounding would break ties: 0.9 - 0.8 and 0.3 - 0.2 differ in the last bit.
    difference = np.round(a - b, 12)
    return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p_values: Values) -> list[float]:
    """Return p-values corrected for their number, in the order given.

    Each is multiplied by how many are not smaller, never falls below one that came
    before it in size, and is at most 1.  An empty list stays empty.

    Raises:
        SettingsError: for a p-value outside [0, 1].

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise SettingsError(f"p_values: got {p.tolist()}; each must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(stepped).clip(max=1.0)
    return [float(value) for value in corrected]


def compare_to(reference: Values, methods: Mapping[str, Values]) -> dict[str, PairedTest]:
    """Test each method against one reference, Holm-corrected over all of them.

    Raises:
        SettingsError: as ``wilcoxon`` does.
    """
    p = {name: wilcoxon(values, reference) for name, values in methods.items()}
    rows = {}
    for (name, values), corrected in zip(methods.items(), holm(list(p.values())), strict=True):
        a, b = _pairs(values, reference, "paired test")
        rows[name] = PairedTest(float((a - b).mean()), p[name], corrected, len(a))
    return rows


def pearson(x: Values, y: Values) -> float:
    """Return the correlation coefficient r in [-1, 1]; NaN when either never varies.

    A patient with NaN in either is left out.

    Raises:
        SettingsError: for fewer than two patients or unequal numbers of them.
    """
    a, b = (v - v.mean() for v in _pairs(x, y, "correlation"))
    size = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else math.nan


def _bootstrap(
    x: NDArray[np.float64], level: float, resamples: int, seed: int, method: str
) -> tuple[float, float]:
    interval = stats.bootstrap(
        (x,),
        _rounded_mean,
        confidence_level=level,
        n_resamples=resamples,
        method=method,
        vectorized=True,
        batch=1000,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _rounded_mean(x: NDArray[np.float64], axis: int = -1) -> Any:
    """The mean without its last digits: draws of equal patients in another order must tie."""
    return np.round(np.mean(x, axis=axis), 12)


def _sample(values: Values, purpose: str) -> NDArray[np.float64]:
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


def _pairs(x: Values, y: Values, purpose: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two numbers a patient, patients with NaN left out."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise SettingsError(
            f"{purpose}: got shapes {a.shape} and {b.shape}; "
            "give one number a patient, the same patients in both"
        )
    known = ~(np.isnan(a) | np.isnan(b))
    return _sample(a[known], purpose), _sample(b[known], purpose)
