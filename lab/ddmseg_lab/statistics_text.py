"""From rows to what may be said of them: intervals, paired tests, tables, sentences.

The patient is the unit: several scans or masks of one are averaged, or drawn together, before
anything is said about the spread. Every sentence is chosen by the numbers, so that a page says
"no difference was found" when there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.evaluation.scores import LEVEL
from ddmseg.maths.statistics import SMALLEST_SAMPLE, Interval, bootstrap_interval
from ddmseg.maths.uncertainty import auroc
from ddmseg_lab.page import number, p_value, with_interval
from ddmseg_lab.statistics import equivalence, holm, pearson, wilcoxon
from ddmseg_lab.table import numbers

ALPHA = 0.05  # Holm-corrected p-value from which a difference counts as found
RESAMPLES = 2000  # draws of the bootstrap over groups, for figures that are no mean
SIGMA_D = "\N{GREEK SMALL LETTER SIGMA}_D"  # the temperature, as pages write it

Pairs = NDArray[np.float64]  # a column per quantity, one row per mask
Kind = TypeVar("Kind", bound=Hashable)
Patient = TypeVar("Patient", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """One condition less a reference on the same patients.

    ``p`` is of the paired Wilcoxon test, ``p_holm`` corrected for all conditions; NaN for one
    patient.
    """

    difference: Interval
    p_holm: float
    p: float = math.nan

    @property
    def found(self) -> bool:
        """Whether there is a difference beyond chance."""
        return self.p_holm < ALPHA


def interval(values: Sequence[float]) -> Interval:
    """Return mean and 95% bootstrap interval of finite values; limits NaN for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) >= SMALLEST_SAMPLE:
        return bootstrap_interval(finite, level=LEVEL)
    mean = finite[0] if finite else math.nan
    return Interval(mean, math.nan, math.nan, len(finite), LEVEL)


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95% bootstrap interval over patients, ready for JSON.

    NaN (nothing to score) is left out; infinite values (a structure missed altogether) are
    counted under ``infinite`` and left out too. One patient has no interval.
    """
    one = interval(values)
    missed = sum(math.isinf(value) for value in values)
    return {**as_dict(one), **({"infinite": missed} if missed else {})}


def as_dict(one: Interval) -> dict[str, Any]:
    """Return an interval as summaries have it."""
    return {"mean": one.mean, "low": one.low, "high": one.high, "n": one.n}


def median_range(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest, highest and number of repeated measurements."""
    low, high = min(values), max(values)
    return {"median": float(np.median(values)), "low": low, "high": high, "n": len(values)}


def over_persons(
    rows: Sequence[Mapping[str, str]], values: str | Sequence[float]
) -> dict[str, Any]:
    """Return mean and interval over persons of a column, or of a value for each row."""
    each = numbers(rows, values) if isinstance(values, str) else values
    return mean_interval(mean_by_group(each, [row["person"] for row in rows]))


def paired_tests(
    reference: Sequence[float], methods: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Return each method less the reference, ready for JSON; nothing of one patient."""
    if len(reference) < SMALLEST_SAMPLE:
        return {}
    sets = {name: dict(enumerate(values)) for name, values in methods.items()}
    found = {}
    for name, one in compare_sets(dict(enumerate(reference)), sets).items():
        limits = as_dict(one.difference)
        found[name] = {"difference": limits.pop("mean"), "p": one.p, "p_holm": one.p_holm, **limits}
    return found


def mean_by_group(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Return the mean of each group, such as the two scans of one person, in order of names."""
    x, of = np.asarray(values, dtype=np.float64), np.asarray(groups)
    means = []
    for group in sorted(set(groups)):
        members = x[of == group]
        members = members[~np.isnan(members)]
        means.append(float(members.mean()) if len(members) else math.nan)
    return means


def group_interval(
    statistic: Callable[[Pairs], float], rows: Pairs, groups: Sequence[str]
) -> dict[str, Any]:
    """Return a statistic with its 95% percentile interval; whole groups are drawn.

    For figures that no mean over patients gives, such as a correlation.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    of = np.asarray(groups)
    members = [np.flatnonzero(of == group) for group in sorted(set(groups))]
    drawn: list[float] = []
    generator = np.random.default_rng(0)
    for _ in range(RESAMPLES if len(members) >= SMALLEST_SAMPLE else 0):
        chosen = generator.integers(len(members), size=len(members))
        drawn.append(statistic(rows[np.concatenate([members[i] for i in chosen])]))
    finite = [value for value in drawn if math.isfinite(value)] or [math.nan]
    low, high = np.percentile(finite, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]).tolist()
    mean = statistic(rows) if members else math.nan
    return {"mean": mean, "low": low, "high": high, "n": len(members)}


def auroc_of(pairs: Pairs, threshold: float = 0.0) -> float:
    """Return the AUROC of the first column for a second one above the threshold."""
    score, value = (torch.from_numpy(np.ascontiguousarray(x)) for x in pairs.T)
    return auroc(score, value > threshold)


def r_of(pairs: Pairs) -> float:
    """Return the correlation of two columns, NaN of a single row."""
    return pearson(pairs[:, 0], pairs[:, 1]) if len(pairs) > 1 else math.nan


def exact_share(hits: int, n: int) -> Interval:
    """Return how often something is the case, with the exact 95% interval; NaN of nothing.

    Source: Clopper and Pearson 1934.
    """
    from scipy.stats import binomtest

    if not n:
        return Interval(math.nan, math.nan, math.nan, 0, LEVEL)
    exact = binomtest(hits, n).proportion_ci(LEVEL, method="exact")
    return Interval(hits / n, float(exact.low), float(exact.high), n, LEVEL)


def compare_sets(
    reference: Mapping[Patient, float], others: Mapping[Kind, Mapping[Patient, float]]
) -> dict[Kind, Comparison]:
    """Compare values by patient with a reference; a patient without both is left out.

    With fewer than two patients nothing is tested and p is NaN.
    """
    base = [_finite(value) for value in reference.values()]
    lines = {
        kind: [_finite(values.get(patient, math.nan)) for patient in reference]
        for kind, values in others.items()
    }
    differences = {
        kind: interval([a - b for a, b in zip(line, base, strict=True)])
        for kind, line in lines.items()
    }
    tested = [kind for kind, one in differences.items() if one.n >= SMALLEST_SAMPLE]
    p = {kind: wilcoxon(lines[kind], base) for kind in tested}
    p_holm = dict(zip(p, holm(list(p.values())), strict=True))
    return {
        kind: Comparison(one, p_holm.get(kind, math.nan), p.get(kind, math.nan))
        for kind, one in differences.items()
    }


def p_words(p: float) -> str:
    """Return a p-value as it is written in text.

    >>> p_words(0.00001), p_words(0.0312), p_words(float("nan"))
    ('p < 0.001', 'p = 0.031', 'p unknown')
    """
    if math.isnan(p):
        return "p unknown"
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def least_words(p: float) -> str:
    """Return the least of several p-values.

    >>> least_words(0.31), least_words(1.0)
    ('p = 0.310 or more', 'p = 1.000')
    """
    return p_words(p) if p >= 0.9995 else f"{p_words(p)} or more"


def difference_words(found: Comparison | None, digits: int = 4) -> str:
    """Return a difference with its interval and p-value; ``reference`` for none."""
    if found is None:
        return "reference"
    return f"{with_interval(found.difference, digits, sign=True)}, {p_words(found.p_holm)}"


def against_words(
    found: Mapping[str, Comparison], *, what: str, reference: str, digits: int = 4
) -> str:
    """Return sentences on conditions against a reference, chosen by the numbers."""
    if not found:
        return f"There is nothing to compare with {reference}."
    if (patients := too_few(found)) is not None:
        largest = max(abs(one.difference.mean) for one in found.values())
        return (
            f"With {counted(patients, 'patient')} no test can find a difference of {what} from "
            f"{reference}; the largest seen is {number(largest, digits)}."
        )
    parts = []
    for word, sign in (("higher", 1), ("lower", -1)):
        named = [
            f"{name} ({difference_words(one, digits)})"
            for name, one in found.items()
            if one.found and sign * one.difference.mean > 0
        ]
        if named:
            parts.append(f"Against {reference}, {what} is {word} with {listed(named)}.")
    rest = [one for one in found.values() if not one.found]
    if rest:
        parts.append(_no_effect(rest, bool(parts), what, reference, digits))
    return " ".join(parts)


def _no_effect(
    rest: Sequence[Comparison], others: bool, what: str, reference: str, digits: int
) -> str:
    largest = max(abs(one.difference.mean) for one in rest)
    least = min(one.p_holm for one in rest)
    several = len(rest) > 1
    return (
        f"{'For the rest no' if others else 'No'} effect on {what} was found: the "
        f"difference{'s' * several} from {reference} {'are' if several else 'is'} "
        f"{'at most ' * several}{number(largest, digits)} in size "
        f"({least_words(least) if several else p_words(least)})."
    )


def equivalence_words(
    reference: Mapping[str, float],
    others: Mapping[str, Mapping[str, float]],
    *,
    margin: float,
    name: str,
) -> str:
    """Return a sentence on what equals the reference, called ``name``, but for the margin.

    Values are by patient. Empty where nothing does.
    """
    patients = list(reference)
    lines = {k: [values.get(p, math.nan) for p in patients] for k, values in others.items()}
    tested = {k: v for k, v in lines.items() if np.isfinite(v).sum() >= SMALLEST_SAMPLE}
    p = equivalence([reference[p] for p in patients], tested, margin)
    alike = [f"{k} ({p_words(one)})" for k, one in p.items() if one < ALPHA]
    if not alike:
        return ""
    return (
        f"Equivalent to {name} within {number(margin)}, by two one-sided signed-rank tests, "
        f"Holm-corrected: {listed(alike)}."
    )


def too_few(found: Mapping[Kind, Comparison]) -> int | None:
    """Return the number of patients where it is too small for any test to find a difference."""
    patients = max((one.difference.n for one in found.values()), default=0)
    # 2^(1 - n) is the least p-value that a signed-rank test of n patients can have, and Holm's
    # correction multiplies the least by the number of tests.
    return patients if len(found) * 2.0 ** (1 - patients) >= ALPHA else None


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def counted(n: int, word: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "subject"), counted(3, "subject")
    ('1 subject', '3 subjects')
    """
    return f"{n} {word}{'s' * (n != 1)}"


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
