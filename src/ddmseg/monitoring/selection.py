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

DEFAULT_WINDOW = "50"
Part = Literal["reference", "window", "other"]


@dataclass(frozen=True)
class Choice:
    """What the user asked to compare.

    Attributes:
        window: ``50`` for the last 50 scans, ``30d`` for those of the last 30 days, counted
            from the newest run.
        reference: ``2026-01-01..2026-03-31``, either side may be left out; all runs before
            the window when None.
        model: name of the model; that of the newest run when None.
    """

    window: str = DEFAULT_WINDOW
    reference: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Selection:
    """The runs of one model in order of time, a scan once, and where each belongs.

    Attributes:
        lines: oldest first.
        parts: where each belongs.
        notes: what was left out, a sentence each.
    """

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
    kept = _newest_of_each_scan(own)
    notes = []
    if len(own) < len(lines):
        notes.append(
            f"{_counted(len(lines) - len(own), 'run')} of other models left out: "
            "--model chooses which model is shown"
        )
    if len(kept) < len(own):
        notes.append(
            f"{_counted(len(own) - len(kept), 'repeated run')} of the same scans left out: "
            "only the newest of each counts"
        )
    start = _window_start(kept, choice.window)
    parts = _parts(kept, start, choice.reference)
    _check(parts, choice)
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


def _newest_of_each_scan(lines: Sequence[Line]) -> list[Line]:
    newest = {line.get("scan_key") or id(line): line for line in lines}
    kept = {id(line) for line in newest.values()}
    return [line for line in lines if id(line) in kept]


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
        ends = tuple(date.fromisoformat(day) if day else None for day in (first, last))
    except ValueError as error:
        raise UsageError(
            f"reference: got '{reference}'; give two days, such as 2026-01-01..2026-03-31"
        ) from error
    if ends[0] and ends[1] and ends[0] > ends[1]:
        raise UsageError(f"reference: got '{reference}'; the first day is after the last")
    return ends[0], ends[1]


def _check(parts: Sequence[Part], choice: Choice) -> None:
    needed: dict[Part, int] = {"window": SMALLEST_WINDOW, "reference": SMALLEST_REFERENCE}
    for part, least in needed.items():
        count = parts.count(part)
        if count < least:
            advice = (
                "give a larger --window, or wait for more"
                if part == "window"
                else "give a smaller --window or a wider --reference, or wait for more"
            )
            raise UsageError(
                f"{part}: {_counted(count, 'scan')}; at least {least} are needed; {advice}"
            )
