"""Raw figures on disk: tables that a stopped run goes on with, and summaries in JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.atomic import atomic_write
from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import write_table
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.provenance import provenance

WEIGHTS, SUBJECT = "weights", "subject"
"""Columns that tell which weights a row was measured with, and on whom."""
LETTERS = 12  # of the weights' checksum in a row: enough to tell models apart
DIGITS = 6  # of a number in a row; more would be noise
Cell = str | float | int
Row = dict[str, Cell]  # one subject and condition: columns by name


class RawTable:
    """Tab-separated rows, written as soon as they come.

    Rows of an earlier run are kept, unless ``fresh``, when they were measured with the weights at
    hand and have the same columns, ``weights`` among them; all others are dropped.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], weights: Iterable[str], *, fresh: bool = False
    ) -> None:
        self.path = path
        self.columns = tuple(columns)
        known = () if fresh else set(weights)
        kept = (row for row in read_rows(path) if tuple(row) == self.columns)
        self.rows = [row for row in kept if row[WEIGHTS] in known]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def has(self, **wanted: object) -> bool:
        """Say whether a row with these values was measured already."""
        return bool(self.select(**wanted))

    def select(self, **wanted: object) -> list[dict[str, str]]:
        """Return the rows with these values, in the order they came."""
        texts = {name: text(value) for name, value in wanted.items()}
        return [row for row in self.rows if all(row[n] == value for n, value in texts.items())]

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows that belong together: after a crash all of them are there or none."""
        self.rows += [{name: text(row[name]) for name in self.columns} for row in rows]
        self._rewrite()

    def _rewrite(self) -> None:
        with atomic_write(self.path) as draft, draft.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, self.columns, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none when there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def numbers(rows: Iterable[Mapping[str, str]], column: str) -> list[float]:
    """Return one column as numbers."""
    return [float(row[column]) for row in rows]


def text(value: object) -> str:
    """Return a value as it stands in a table: six digits after the point suffice here."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_summary(path: Path, summary: Mapping[str, Any], *, seed: int | None = None) -> None:
    """Write figures as JSON, rounded to what they are good for; NaN becomes null.

    ``provenance`` is of the code that added them up; an earlier run may have left rows.
    """
    whole = {**summary, "provenance": provenance(seed)}
    replace_file(path, (json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n").encode())


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return what ``write_summary`` wrote; None when there is no file."""
    if not path.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return summary


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


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


class RawFile:
    """The rows of one study, of any number of models, each keyed by its weights.

    A file with other columns or a cell that is no number is refused with a UsageError.
    """

    def __init__(self, path: Path, words: Sequence[str], numbers: Sequence[str]) -> None:
        self.path = path
        self.columns = (WEIGHTS, SUBJECT, *words, *numbers)
        self._numbers = frozenset(numbers)
        self._rows: list[Row] = []
        if not path.is_file():
            return
        with path.open(encoding="utf-8", newline="") as file:
            found = csv.DictReader(file, delimiter="\t")
            if tuple(found.fieldnames or ()) != self.columns:
                raise UsageError(
                    f"{path}: other columns than this study has now; move the file away and "
                    "measure again"
                )
            for line, row in enumerate(found, start=2):
                self._rows.append({n: self._parsed(n, row[n], line) for n in self.columns})

    def rows(self, weights: str) -> Rows:
        """Return the rows measured with these weights."""
        return Rows(tuple(row for row in self._rows if row[WEIGHTS] == weights))

    def add(self, weights: str, subject: str, rows: Sequence[Row]) -> None:
        """Append the rows of one subject: after a crash all of them are there or none."""
        for row in rows:
            whole: Row = {WEIGHTS: weights, SUBJECT: subject, **row}
            self._rows.append({name: self._short(name, whole[name]) for name in self.columns})
        self._write()

    def forget(self, weights: str) -> None:
        """Drop the rows of these weights."""
        kept = [row for row in self._rows if row[WEIGHTS] != weights]
        if len(kept) < len(self._rows):
            self._rows = kept
            self._write()

    def _write(self) -> None:
        write_table(self.path, self.columns, [[r[c] for c in self.columns] for r in self._rows])

    def _short(self, name: str, value: Cell) -> Cell:
        # A row just measured equals the same row read back.
        return float(f"{float(value):.{DIGITS}g}") if name in self._numbers else str(value)

    def _parsed(self, name: str, cell: str | None, line: int) -> Cell:
        if name not in self._numbers:
            return str(cell)
        try:
            return math.nan if cell == "" else float(cell or "None")
        except ValueError as error:
            raise UsageError(
                f"{self.path}, line {line}: {name}: got '{cell}'; give a number"
            ) from error


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return a study's records of all models by their weights; none when there is no file."""
    if not path.is_file():
        return {}
    try:
        records: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(one, dict) for one in records.values()):
            raise ValueError("no record by weights")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: not a record of a study ({error}); measure again") from error
    return records


def write_record(path: Path, weights: str, record: dict[str, Any]) -> None:
    """Put one model's record beside those of others."""
    found = json.dumps({**read_records(path), weights: record}, indent=1, sort_keys=True) + "\n"
    replace_file(path, found.encode())
