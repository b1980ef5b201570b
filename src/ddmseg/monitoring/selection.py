"""Which runs are compared: the window, the reference before it, and what lies elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from ddmseg.errors import UsageError, did_you_mean
from ddmseg.maths.shift import SMALLEST_REFERENCE, SMALLEST_WINDOW
from ddmseg.monitoring.columns import Line

Part = Literal["reference", "window", "other"]


@dataclass(frozen=True)
class Choice:
    """What the user asked to compare, as in the options of ``ddmseg monitor``."""

    window: str = "50"
    reference: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Selection:
    """The runs of one model, oldest first, a scan once; where each belongs; what was left out."""

    model: str
    lines: list[Line]
    parts: list[Part]
    notes: list[str]

    def of(self, part: Part) -> list[Line]:
        """Return the runs of one part."""
        return [line for line, own in zip(self.lines, self.parts, strict=True) if own == part]


def time_of(line: Line) -> datetime:
    """Return when a run was."""
    time = line["time"]
    assert isinstance(time, datetime)
    return time


def select(lines: Sequence[Line], choice: Choice) -> Selection:
    """Divide the runs of a store.

    Raises:
        UsageError: when there are too few runs in a part, or the choice makes no sense.
    """
    if not lines:
        raise UsageError("the store holds no run yet; segment scans with --monitor first")
    model = _model(lines, choice.model)
    own = [line for line in lines if line.get("model") == model]
    newest = set({line.get("scan_key") or id(line): id(line) for line in own}.values())
    kept = [line for line in own if id(line) in newest]
    foreign, repeated = len(lines) - len(own), len(own) - len(kept)
    notes = []
    if foreign:
        notes.append(
            f"{_counted(foreign, 'run')} of other models left out: "
            "--model chooses which model is shown"
        )
    if repeated:
        notes.append(
            f"{_counted(repeated, 'repeated run')} of the same scans left out: "
            "only the newest of each counts"
        )
    parts = _parts(kept, _window_start(kept, choice.window), choice.reference)
    _check(parts)
    return Selection(str(model), kept, parts, notes)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _model(lines: Sequence[Line], wanted: str | None) -> object:
    names = {str(line.get("model")): line.get("model") for line in lines}
    if wanted is None:
        return lines[-1].get("model")
    if wanted not in names:
        raise UsageError(
            f"model: got '{wanted}'{did_you_mean(wanted, names)}; the store has runs of "
            f"{', '.join(sorted(names))}"
        )
    return names[wanted]


def _window_start(lines: Sequence[Line], window: str) -> int:
    """Place of the first run of the window."""
    found = re.fullmatch(r"([1-9]\d{0,6})(d?)", window)
    if found is None:
        raise UsageError(
            f"window: got '{window}'; give a number of scans, such as 50, or of days, such as 30d"
        )
    number = int(found[1])
    if not found[2]:
        return max(0, len(lines) - number)
    try:
        after = time_of(lines[-1]) - timedelta(days=number)
    except OverflowError:
        return 0
    return next(place for place, line in enumerate(lines) if time_of(line) > after)


def _parts(lines: Sequence[Line], start: int, reference: str | None) -> list[Part]:
    first, last = _dates(reference)
    begins = time_of(lines[start])
    if last is not None and last > begins.date():
        raise UsageError(
            f"reference: ends on {last}, but the window begins on {begins.date()}; end it before, "
            "or give a smaller --window"
        )
    parts: list[Part] = []
    for place, line in enumerate(lines):
        day = time_of(line).date()
        inside = (first is None or day >= first) and (last is None or day <= last)
        parts.append("window" if place >= start else "reference" if inside else "other")
    return parts


def _dates(reference: str | None) -> tuple[date | None, date | None]:
    if reference is None:
        return None, None
    first, dots, last = reference.partition("..")
    try:
        if not dots:
            raise ValueError
        begin, end = (date.fromisoformat(day) if day else None for day in (first, last))
    except ValueError as error:
        raise UsageError(
            f"reference: got '{reference}'; give two days, such as 2026-01-01..2026-03-31"
        ) from error
    if begin and end and begin > end:
        raise UsageError(f"reference: got '{reference}'; the first day is after the last")
    return begin, end


def _check(parts: Sequence[Part]) -> None:
    needed: tuple[tuple[Part, int, str], ...] = (
        ("window", SMALLEST_WINDOW, "larger --window"),
        ("reference", SMALLEST_REFERENCE, "smaller --window or a wider --reference"),
    )
    for part, least, give in needed:
        if (count := parts.count(part)) < least:
            raise UsageError(
                f"{part}: {_counted(count, 'scan')}; at least {least} are needed; give a {give}, "
                "or wait for more"
            )
