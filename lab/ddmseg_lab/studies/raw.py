"""What a study leaves under ``results/study/NAME``: raw rows, and how they came about."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import write_table
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.studies.rows import SUBJECT, Cell, Row, Rows

RAW_FILE = "raw.tsv"
RECORD_FILE = "run.json"
WEIGHTS = "weights"
CHECKSUM_LETTERS = 12
"""Of the weights' checksum in a row: enough to tell models apart."""
DIGITS = 6
"""Of a number in a row; more would be noise."""


class RawFile:
    """The rows of one study, of any number of models, each keyed by its weights.

    Args:
        path: of the ``.tsv`` file.
        words: columns that hold words.
        numbers: columns that hold numbers.

    Raises:
        UsageError: when a file there has other columns or a cell is no number.
    """

    def __init__(self, path: Path, words: Sequence[str], numbers: Sequence[str]) -> None:
        self.path = path
        self.columns = (WEIGHTS, SUBJECT, *words, *numbers)
        self._numbers = frozenset(numbers)
        self._rows = self._read() if path.is_file() else []

    def rows(self, weights: str) -> Rows:
        """Return the rows measured with these weights."""
        return Rows(tuple(row for row in self._rows if row[WEIGHTS] == weights))

    def add(self, weights: str, subject: str, rows: Sequence[Row]) -> None:
        """Append the rows of one subject: after a crash all of them are there or none."""
        for row in rows:
            told: Row = {WEIGHTS: weights, SUBJECT: subject, **row}
            self._rows.append({name: self._short(name, told[name]) for name in self.columns})
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

    def _read(self) -> list[Row]:
        with self.path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            if tuple(table.fieldnames or ()) != self.columns:
                raise UsageError(
                    f"{self.path}: other columns than this study has now; move the file away "
                    "and measure again"
                )
            return [self._parsed(row, number) for number, row in enumerate(table, start=2)]

    def _parsed(self, row: dict[str, str], line: int) -> Row:
        parsed: Row = {}
        for name in self.columns:
            text = row[name]
            if name not in self._numbers:
                parsed[name] = text
                continue
            try:
                parsed[name] = math.nan if text == "" else float(text)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"{self.path}, line {line}: {name}: got '{text}'; give a number"
                ) from error
        return parsed


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of all models by their weights; none when there is no file.

    Raises:
        UsageError: when the file is damaged.
    """
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
    text = json.dumps({**read_records(path), weights: record}, indent=1, sort_keys=True) + "\n"
    replace_file(path, text.encode())
