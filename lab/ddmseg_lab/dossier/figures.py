"""Figures by name, each read from its record or else not shown at all."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import Card
from ddmseg_lab.dossier.records import Records
from ddmseg_lab.page import MIDDLES, NOT_MEASURED, inner, with_interval
from ddmseg_lab.questions import STUDIES
from ddmseg_lab.study import RAW_FILE
from ddmseg_lab.table import LETTERS


@cache
def shipped_table(name: str) -> dict[str, Any]:
    """Return one of the TOML files of this package, such as ``figures``."""
    file = resources.files("ddmseg_lab.dossier") / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Figure:
    """A figure that a document may show, as ``figures.toml`` names it.

    Attributes:
        record: file below the results.
        path: names that lead to the figure in it.
        study: whose goal it is, "" for none; it is computed from the study's rows, which are
            the record then.
        model: whose weights it belongs to, "" for none.
        raw: table that the record was summed from, "" for none.
        of: what its n counts.
        unit: written behind the number.
        digits: after the point.
    """

    name: str
    what: str
    record: str
    path: tuple[str, ...] = ()
    study: str = ""
    model: str = ""
    raw: str = ""
    of: str = ""
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Measured:
    """A figure with what its record says of it.

    Its value is a mean with ``low``, ``high`` and ``n``, or None and why it was not measured.
    """

    figure: Figure
    value: Mapping[str, Any] | None
    why: str = ""

    @property
    def shown(self) -> str:
        """The value with its interval, or that it was not measured and why."""
        if self.value is None:
            return f"{NOT_MEASURED} ({self.why})"
        return with_interval(self.value, self.figure.digits, self.figure.unit)

    @property
    def count(self) -> str:
        """What it is the mean of, such as ``18 persons``; "" when it was not measured."""
        if self.value is None:
            return ""
        n = self.value["n"]
        return "not stated" if n is None else f"{n} {self.figure.of}".strip()


class _NotMeasuredError(Exception):
    """Why a figure does not appear."""


@cache
def figures() -> dict[str, Figure]:
    """Return every figure by name."""
    found = {}
    for name, row in shipped_table("figures").items():
        where = {"record": f"study/{row['study']}/{RAW_FILE}"} if "study" in row else {}
        found[name] = Figure(name, **{**row, **where, "path": tuple(row.get("path", ()))})
    return found


def measure(figure: Figure, records: Records, cards: Mapping[str, Card]) -> Measured:
    """Read a figure from its record; that of a study is computed from the study's rows.

    It is refused where the record is missing, was measured with other weights than those
    that ship, or lacks the raw table that it was summed from.
    """
    try:
        found = (_goal_of if figure.study else _recorded)(figure, records, cards)
        return Measured(figure, _with_limits(figure, found))
    except _NotMeasuredError as reason:
        return Measured(figure, None, str(reason))


def _recorded(figure: Figure, records: Records, cards: Mapping[str, Card]) -> Any:
    found = records.summary(figure.record)
    named = None if found is None else set(_weights(found))
    _check_weights(figure, figure.record, named, cards)
    if figure.raw:
        _check_weights(figure, figure.raw, records.weights_of_rows(figure.raw), cards)
    value = inner(found, *figure.path)
    if value is None:
        raise _NotMeasuredError(f"{figure.record} does not hold it")
    return value


def _goal_of(figure: Figure, records: Records, cards: Mapping[str, Card]) -> dict[str, Any]:
    """Compute the figure that a study aims at from its rows of the weights that ship."""
    _check_weights(figure, figure.record, records.weights_of_rows(figure.record), cards)
    study = STUDIES[figure.study]
    (claim,) = study.claims(study.rows(records.folder, cards[figure.model]))
    assert isinstance(claim.measured, Mapping)
    # without bad scans, or without good ones, there is nothing to tell apart
    return {name: None if math.isnan(value) else value for name, value in claim.measured.items()}


def _weights(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the weights that a record names, however deep."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _weights(value)
        elif name == "weights" and isinstance(value, str):
            yield value


def _check_weights(
    figure: Figure, file: str, named: set[str] | None, cards: Mapping[str, Card]
) -> None:
    """Refuse a file that is not there or whose weights are not those that ship."""
    if named is None:
        raise _NotMeasuredError(f"no {file}")
    if not figure.model:
        return
    if figure.model not in cards:
        raise _NotMeasuredError(f"no model {figure.model} ships")
    shipped, others = cards[figure.model].checksum[:LETTERS], {name[:LETTERS] for name in named}
    if not others:
        raise _NotMeasuredError("the record names no weights")
    if shipped not in others:
        told = ", ".join(sorted(others))
        raise _NotMeasuredError(f"the record is of other weights, {told}; {shipped} ship")


def _with_limits(figure: Figure, value: Any) -> dict[str, Any]:
    """Bring a number, or a table with an interval, into one form."""
    table = value if isinstance(value, Mapping) else {"mean": value}
    mean = next((table[name] for name in MIDDLES if name in table), None)
    if mean is None:
        raise _NotMeasuredError(f"{figure.record} has no value for it")
    found = {"mean": mean, "low": table.get("low"), "high": table.get("high")}
    for number in found.values():
        if number is not None and not _is_number(number):
            raise UsageError(
                f"{figure.record}: {' / '.join(figure.path)}: got {str(number)[:40]!r}, which is "
                "no number; measure again, or take the file away"
            )
    return {**found, "n": table.get("n")}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
