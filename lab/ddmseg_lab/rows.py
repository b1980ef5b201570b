"""Rows of a study, numbers as numbers, and what they add up to over patients."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import LEVEL
from ddmseg.maths.statistics import Interval
from ddmseg_lab.statistics_text import Comparison, Pairs, compare_sets, group_interval, interval
from ddmseg_lab.table import SUBJECT, WEIGHTS

Cell = str | float | int
Row = dict[str, Cell]  # one subject and condition: columns by name


@dataclass(frozen=True)
class Rows:
    """Rows of one model in the order they were measured, each with a ``subject``."""

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, **wanted: Cell) -> Rows:
        """Return the rows with these values."""
        return Rows(tuple(row for row in self.rows if all(row[n] == v for n, v in wanted.items())))

    def among(self, column: str, allowed: tuple[Cell, ...]) -> Rows:
        """Return the rows whose value is one of those allowed."""
        return Rows(tuple(row for row in self.rows if row[column] in allowed))

    def known(self, *columns: str) -> Rows:
        """Return the rows in which none of these numbers is NaN."""
        known = (r for r in self.rows if not any(math.isnan(float(r[c])) for c in columns))
        return Rows(tuple(known))

    def kinds(self, column: str) -> list[Cell]:
        """Return the different values of a column, in the order they first come."""
        return list(dict.fromkeys(row[column] for row in self.rows))

    def numbers(self, column: str) -> list[float]:
        """Return a column as numbers, one per row."""
        return [float(row[column]) for row in self.rows]

    def words(self, column: str) -> list[str]:
        """Return a column as words, one per row."""
        return [str(row[column]) for row in self.rows]

    @property
    def subjects(self) -> list[str]:
        """Return the subjects, in the order they came."""
        return [str(one) for one in self.kinds(SUBJECT)]

    def by_subject(self, column: str) -> dict[str, float]:
        """Return the mean of each subject's finite values, NaN where there are none."""
        found: dict[str, list[float]] = {name: [] for name in self.subjects}
        for row in self.rows:
            if math.isfinite(value := float(row[column])):
                found[str(row[SUBJECT])].append(value)
        return {name: float(np.mean(v)) if v else math.nan for name, v in found.items()}

    def mean(self, column: str) -> Interval:
        """Return the mean over subjects of a column, with its interval."""
        return interval(list(self.by_subject(column).values()))

    def pooled(self, statistic: Callable[[Pairs], float], *columns: str) -> Interval:
        """Return a statistic of the columns of all rows, see :func:`group_interval`."""
        values = np.array([self.numbers(name) for name in columns], dtype=np.float64).T
        found = group_interval(statistic, values, self.words(SUBJECT))
        return Interval(found["mean"], found["low"], found["high"], found["n"], LEVEL)

    def compare(self, column: str, by: str, reference: Cell) -> dict[Cell, Comparison]:
        """Compare a column of every condition with a reference, subject by subject.

        Rows of one subject and condition are averaged; p-values are Holm-corrected.
        """
        sets = {kind: self.where(**{by: kind}).by_subject(column) for kind in self.kinds(by)}
        return compare_sets(sets.pop(reference, {}), sets)

    def gains(self, column: str, by: str, kinds: Sequence[Cell], reference: Cell) -> list[Interval]:
        """Return the difference of each condition from the reference, whose own is 0."""
        found = self.compare(column, by, reference)
        nothing = Interval(0.0, math.nan, math.nan, len(self.subjects), LEVEL)
        return [found[kind].difference if kind in found else nothing for kind in kinds]


def read_typed(path: Path, words: Sequence[str], numbers: Sequence[str]) -> Rows:
    """Return the rows of a study, of any number of models; none when there is no file.

    A file with other columns or a cell that is no number is refused with a UsageError.
    """
    if not path.is_file():
        return Rows(())
    columns = (WEIGHTS, SUBJECT, *words, *numbers)
    with path.open(encoding="utf-8", newline="") as file:
        found = csv.DictReader(file, delimiter="\t")
        if tuple(found.fieldnames or ()) != columns:
            raise UsageError(
                f"{path}: other columns than this study has now; move the file away and measure "
                "again"
            )
        rows = [
            {**row, **{n: _number(row[n], f"{path}, line {line}: {n}") for n in numbers}}
            for line, row in enumerate(found, start=2)
        ]
    return Rows(tuple(rows))


def _number(cell: str | None, place: str) -> float:
    try:
        return math.nan if cell == "" else float(cell or "None")
    except ValueError as error:
        raise UsageError(f"{place}: got '{cell}'; give a number") from error
