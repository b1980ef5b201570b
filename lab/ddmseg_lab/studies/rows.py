"""Measured rows, and the few questions that pages ask of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Cell = str | float | int
Row = dict[str, Cell]
"""One subject and condition: columns by name."""

SUBJECT = "subject"


@dataclass(frozen=True)
class Rows:
    """Rows in the order they were measured, each with a ``subject``."""

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
        return Rows(
            tuple(row for row in self.rows if not any(math.isnan(float(row[c])) for c in columns))
        )

    def kinds(self, column: str) -> list[Cell]:
        """Return the different values of a column, in the order they first come."""
        return list(dict.fromkeys(row[column] for row in self.rows))

    def numbers(self, column: str) -> list[float]:
        """Return a column as numbers, one a row."""
        return [float(row[column]) for row in self.rows]

    def words(self, column: str) -> list[str]:
        """Return a column as words, one a row."""
        return [str(row[column]) for row in self.rows]

    @property
    def subjects(self) -> list[str]:
        """Return the subjects, in the order they came."""
        return [str(one) for one in self.kinds(SUBJECT)]

    def by_subject(self, column: str) -> dict[str, float]:
        """Return the mean of each subject's rows; NaN is left out, and NaN where none is left."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            found.setdefault(str(row[SUBJECT]), []).append(float(row[column]))
        return {name: _mean(values) for name, values in found.items()}


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
