"""Raw figures on disk: a table that a stopped run goes on with, and summaries in JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg_lab.provenance import provenance

WEIGHTS = "weights"
"""Column that tells which weights a row was measured with."""


class RawTable:
    """Tab-separated rows, written as soon as they come.

    Rows of an earlier run are kept when they were measured with the weights at hand and
    have the same columns; all others are dropped, so that one table is of one model.

    Args:
        path: of the ``.tsv`` file; its folder is made.
        columns: names, ``weights`` among them.
        weights: checksums of the weights at hand.
        fresh: drop all earlier rows.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], weights: Iterable[str], *, fresh: bool = False
    ) -> None:
        self.path = path
        self.columns = tuple(columns)
        known = set(weights)
        earlier = [] if fresh else read_rows(path)
        self.rows = [row for row in earlier if tuple(row) == self.columns and row[WEIGHTS] in known]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()

    def has(self, **wanted: object) -> bool:
        """Say whether a row with these values was measured already."""
        return bool(self.select(**wanted))

    def select(self, **wanted: object) -> list[dict[str, str]]:
        """Return the rows with these values, in the order they came."""
        return [
            row
            for row in self.rows
            if all(row[name] == text(value) for name, value in wanted.items())
        ]

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows that belong together: after a crash all of them are there or none."""
        new = [{name: text(row[name]) for name in self.columns} for row in rows]
        self.rows += new
        self._rewrite()

    def _rewrite(self) -> None:
        with (
            atomic_write(self.path) as draft,
            draft.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self.columns, delimiter="\t", lineterminator="\n")
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

    Beside them stands under ``provenance`` what code added them up. Rows that an earlier
    run left may be of an earlier commit.

    Args:
        path: of the ``.json`` file; its folder is made.
        summary: the figures.
        seed: that noise was drawn from; None where there is no such number.
    """
    whole = {**summary, "provenance": provenance(seed)}
    text = json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")


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
