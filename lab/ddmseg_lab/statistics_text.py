"""From rows to what may be said of them: intervals, paired comparisons, tables, sentences.

The patient is the unit.  Every sentence is chosen by the numbers, so that a page says "no
difference was found" when there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ddmseg.evaluation.scores import LEVEL
from ddmseg.maths.statistics import SMALLEST_SAMPLE, Interval, bootstrap_interval, compare_to
from ddmseg_lab.studies.rows import Cell, Rows

ALPHA = 0.05
"""Holm-corrected p-value from which a difference counts as found."""
RESAMPLES = 2000
"""Draws of patients for figures that are no mean."""
SIGMA_D = "\N{GREEK SMALL LETTER SIGMA}_D"
"""The temperature, as pages write it."""
NONE = "–"
"""Where a table has no figure."""

Table = NDArray[np.float64]
Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """One condition against a reference on the same patients.

    Attributes:
        difference: condition less reference, mean over patients.
        p_holm: of the paired Wilcoxon test, corrected for all conditions; NaN for one patient.
    """

    difference: Interval
    p_holm: float

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


def over_patients(rows: Rows, column: str) -> Interval:
    """Return the mean over patients of a column, with its interval."""
    return interval(list(rows.by_subject(column).values()))


def pooled(statistic: Callable[[Table], float], rows: Rows, columns: Sequence[str]) -> Interval:
    """Return a statistic of all rows with a 95% percentile interval; patients are drawn whole.

    For figures that are no mean over patients, such as a correlation.

    Args:
        statistic: of a table with the columns as its columns, one line a row.
        rows: without NaN in these columns.
        columns: names.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    table = np.array([rows.numbers(name) for name in columns], dtype=np.float64).T
    of = np.array(rows.words("subject"))
    groups = [np.flatnonzero(of == name) for name in rows.subjects]
    if not groups:
        return Interval(math.nan, math.nan, math.nan, 0, LEVEL)
    value = statistic(table)
    if len(groups) < SMALLEST_SAMPLE:
        return Interval(value, math.nan, math.nan, len(groups), LEVEL)
    generator = np.random.default_rng(0)
    drawn = np.array(
        [
            statistic(table[np.concatenate([groups[i] for i in picked])])
            for picked in generator.integers(len(groups), size=(RESAMPLES, len(groups)))
        ]
    )
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, math.nan, math.nan, len(groups), LEVEL)
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(value, float(low), float(high), len(groups), LEVEL)


def compare(rows: Rows, column: str, by: str, reference: Cell) -> dict[Cell, Comparison]:
    """Compare every condition with a reference, patient by patient, Holm-corrected.

    Args:
        rows: one a patient and condition, or several that are averaged.
        column: what is compared.
        by: column of the conditions.
        reference: the condition that the others are compared with.
    """
    sets = {kind: rows.where(**{by: kind}).by_subject(column) for kind in rows.kinds(by)}
    return compare_sets(sets.pop(reference, {}), sets)


def compare_sets(
    reference: Mapping[str, float], others: Mapping[Kind, Mapping[str, float]]
) -> dict[Kind, Comparison]:
    """Compare values by patient with a reference; a patient without both is left out.

    With fewer than two patients nothing is tested and p is NaN.
    """
    patients = list(reference)
    base = [_finite(reference[p]) for p in patients]
    lines = {
        k: [_finite(values.get(p, math.nan)) for p in patients] for k, values in others.items()
    }
    differences = {
        kind: interval([a - b for a, b in zip(line, base, strict=True)])
        for kind, line in lines.items()
    }
    tested = {k: line for k, line in lines.items() if differences[k].n >= SMALLEST_SAMPLE}
    names = {str(place): kind for place, kind in enumerate(tested)}
    tests = compare_to(base, {name: tested[kind] for name, kind in names.items()})
    p_values = {kind: tests[name].p_holm for name, kind in names.items()}
    return {k: Comparison(differences[k], p_values.get(k, math.nan)) for k in others}


def shown(found: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """Return ``0.874 (0.864 to 0.883)``, the mean alone without limits, a dash for none.

    >>> shown(Interval(0.1, -0.05, 0.2, 9, 0.95), 2, sign=True)
    '+0.10 (−0.05 to +0.20)'
    """
    if math.isnan(found.mean):
        return NONE
    text = number(found.mean, digits, sign=sign)
    if math.isnan(found.low):
        return text
    low, high = (number(limit, digits, sign=sign) for limit in (found.low, found.high))
    return f"{text} ({low} to {high})"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number with a real minus, a dash for NaN.

    >>> number(-0.0123, 3), number(float("inf"), 1), number(0.5, 1, sign=True)
    ('−0.012', '∞', '+0.5')
    """
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def p_words(p: float) -> str:
    """Return a p-value as it is written in text.

    >>> p_words(0.00001), p_words(0.0312), p_words(float("nan"))
    ('p < 0.001', 'p = 0.031', 'p unknown')
    """
    if math.isnan(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def least_words(p: float) -> str:
    """Return the least of several p-values.

    >>> least_words(0.31), least_words(1.0)
    ('p = 0.310 or more', 'p = 1.000')
    """
    return p_words(p) if p >= 0.9995 else f"{p_words(p)} or more"


def difference_words(found: Comparison, digits: int = 4) -> str:
    """Return a difference with its interval and p-value."""
    return f"{shown(found.difference, digits, sign=True)}, {p_words(found.p_holm)}"


def comparison_cell(found: Comparison | None, digits: int = 4) -> str:
    """Return a cell of a table: difference, interval and p; ``reference`` for none."""
    return "reference" if found is None else difference_words(found, digits)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right.

    >>> print(markdown_table(["steps", "Dice"], [["1", "0.9"]]))
    | steps | Dice |
    |:--|--:|
    | 1 | 0.9 |
    """
    first, *rest = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    marks = "|".join([":--", *["--:"] * (len(heads) - 1)])
    return "\n".join([first, f"|{marks}|", *rest])


def against_words(
    found: Mapping[str, Comparison], *, what: str, reference: str, digits: int = 4
) -> str:
    """Return sentences on conditions against a reference, chosen by the numbers.

    Args:
        found: by the name of the condition, as it reads in a sentence.
        what: is compared, such as ``mean Dice``.
        reference: its name in a sentence.
        digits: of differences.
    """
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
