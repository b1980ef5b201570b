"""How far volumes agree: bias and limits of agreement of each structure.

Source: Bland and Altman 1986, The Lancet 327:307-310.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddmseg.maths.case_scores import Score
from ddmseg.maths.statistics import SMALLEST_SAMPLE

NORMAL_QUANTILE = 1.96
"""Standard deviations that hold 95% of a normal distribution."""


@dataclass(frozen=True)
class Agreement:
    """Volume differences, prediction minus truth, over patients, in ml.

    Attributes:
        bias_ml: mean difference.
        low_ml: lower limit of agreement, bias - 1.96 standard deviations.
        high_ml: upper limit.
        n: patients. With one the limits are NaN, with none the bias too.
    """

    bias_ml: float
    low_ml: float
    high_ml: float
    n: int


def agreement(scores: Sequence[Score]) -> dict[str, Agreement]:
    """Return the agreement of volumes for each structure, in the order of the scores.

    A patient with the structure in one map only counts with all of its volume; one with
    it in neither is left out.
    """
    differences: dict[str, list[float]] = {}
    for score in scores:
        found = differences.setdefault(score.structure, [])
        if score.truth_ml > 0 or score.prediction_ml > 0:
            found.append(score.prediction_ml - score.truth_ml)
    return {name: limits_of_agreement(values) for name, values in differences.items()}


def limits_of_agreement(differences_ml: Sequence[float]) -> Agreement:
    """Return bias and limits of differences in ml, with the sample's standard deviation.

    >>> limits_of_agreement([1.0, 3.0]).bias_ml
    2.0
    """
    n = len(differences_ml)
    bias = float(np.mean(differences_ml)) if n else math.nan
    if n < SMALLEST_SAMPLE:
        return Agreement(bias, math.nan, math.nan, n)
    reach = NORMAL_QUANTILE * float(np.std(differences_ml, ddof=1))
    return Agreement(bias, bias - reach, bias + reach, n)
