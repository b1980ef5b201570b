"""Raw figures on disk: tables that a stopped run goes on with, and summaries in JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.provenance import provenance

WEIGHTS, SUBJECT = "weights", "subject"
"""Columns that tell which weights a row was measured with, and on whom."""
LETTERS = 12  # of the weights' checksum in a row: enough to tell models apart


class RawTable:
    """Tab-separated rows, written as soon as they come.

    Rows of an earlier run are kept, unless ``fresh``, when they were measured with the weights at
    hand, or any where these are None, and have the same columns, ``weights`` among them; all
    others are dropped.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        weights: Iterable[str] | None,
        *,
        fresh: bool = False,
    ) -> None:
        self.path = path
        self.columns = tuple(columns)
        known = None if weights is None else set(weights)
        before = [] if fresh else read_rows(path)
        kept = (row for row in before if tuple(row) == self.columns)
        self.rows = [row for row in kept if known is None or row[WEIGHTS] in known]
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

    def forget(self, weights: str) -> None:
        """Drop the rows of these weights."""
        self.rows = [row for row in self.rows if row[WEIGHTS] != weights]
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
