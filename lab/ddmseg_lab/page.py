"""The parts that the page of results is made of, as Markdown, and what figures are from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ddmseg.maths.statistics import Interval
from ddmseg.models.zoo import shipped_cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_MEASURED = "not measured"
NO_FIGURE = "–"  # where a table has no figure, such as the promise of a network that makes none


@dataclass(frozen=True)
class Target:
    """What a figure, named in words, should be: at least or at most the bound."""

    what: str
    bound: float
    at_least: bool = True
    unit: str = ""
    digits: int = 3

    @property
    def shown(self) -> str:
        """The bound, such as ``at least 0.890``."""
        return f"at {'least' if self.at_least else 'most'} {self.number(self.bound)}"

    def number(self, value: float) -> str:
        """Return a number with the target's digits and unit."""
        return number(value, self.digits) + self.unit

    def verdict(self, value: float) -> str:
        """Say whether the target was reached, and by how much."""
        room = value - self.bound if self.at_least else self.bound - value
        if room < 0:
            return f"**missed by {self.number(-room)}**"
        return f"reached, {self.number(room)} to spare" if room > 0 else "reached, just"


def at_most(what: str, bound: float, unit: str = "", *, digits: int = 2) -> Target:
    """Return the target of a cost: seconds, memory, an error."""
    return Target(what, bound, at_least=False, unit=unit, digits=digits)


@dataclass(frozen=True)
class Claim:
    """A target and what was measured: a number, or a mean with its interval."""

    target: Target
    measured: float | Mapping[str, Any] | None

    @property
    def value(self) -> float | None:
        """The one number that is compared with the bound."""
        if isinstance(self.measured, Mapping):
            return middle_of(self.measured)
        return self.measured

    def row(self) -> list[str]:
        """Return the cells of a table: what, target, measured, verdict."""
        target, value = self.target, self.value
        if value is None:
            return [target.what, target.shown, NOT_MEASURED, NOT_MEASURED]
        measured = self.measured if isinstance(self.measured, Mapping) else {"mean": value}
        shown = with_interval(measured, target.digits, target.unit)
        return [target.what, target.shown, shown, target.verdict(value)]


def claim(what: str, bound: float, found: Any, *path: str, **more: Any) -> Claim:
    """Return a target beside what names lead to in a summary; ``more`` is of :class:`Target`."""
    return Claim(Target(what, bound, **more), inner(found, *path))


def inner(found: Any, *path: str) -> Any:
    """Follow names into a summary; None where they lead nowhere."""
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


@dataclass(frozen=True)
class Section:
    """One page: which command measured it, what was promised, what came out.

    ``name`` is that of the page's file, without ending.
    """

    name: str
    title: str
    command: str
    body: Sequence[str] = field(default_factory=list)
    claims: Sequence[Claim] = field(default_factory=list)
    measured: bool = True

    @property
    def link(self) -> str:
        """The title, as a link from the index where there is a page."""
        return f"[{self.title}](studies/{self.name}.md)" if self.measured else ""

    def markdown(self) -> str:
        """Return the page."""
        parts = [f"# {self.title}", f"```\n{self.command}\n```"]
        if self.claims:
            parts.append(table(CLAIM_HEADS, [claim.row() for claim in self.claims]))
        return "\n\n".join([*parts, *self.body]) + "\n"


CLAIM_HEADS = ("figure", "target", "measured", "outcome")  # of a table of claims


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, all others right.

    >>> print(table(["method", "Dice"], [["fast", "0.9"]]))
    | method | Dice |
    |:--|--:|
    | fast | 0.9 |
    """
    marks = [":--"] + ["--:"] * (len(header) - 1)
    lines = [" | ".join(header), *[" | ".join(row) for row in rows]]
    first, *rest = [f"| {line} |" for line in lines]
    return "\n".join([first, f"|{'|'.join(marks)}|", *rest])


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number with a real minus, a dash for NaN.

    >>> number(-0.0123, 3), number(float("inf"), 1), number(0.5, 1, sign=True)
    ('−0.012', '∞', '+0.5')
    """
    if math.isnan(value):
        return NO_FIGURE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


MIDDLES = ("mean", "median", "rate", "difference")  # how summaries call the value of a figure


def middle_of(measured: Mapping[str, Any]) -> float | None:
    """Return the value of a figure in a summary, which has one of several names."""
    return next((measured[name] for name in MIDDLES if name in measured), None)


def with_interval(
    measured: Mapping[str, Any] | Interval | None,
    digits: int = 3,
    unit: str = "",
    *,
    sign: bool = False,
) -> str:
    """Return ``0.912 (0.905 to 0.918)``; the mean alone when there is no interval.

    >>> with_interval(Interval(0.1, -0.05, 0.2, 9, 0.95), 2, sign=True)
    '+0.10 (−0.05 to +0.20)'
    """
    if measured is None:
        return NOT_MEASURED
    found = vars(measured) if isinstance(measured, Interval) else measured
    value, low, high = middle_of(found), found.get("low"), found.get("high")
    if value is None or math.isnan(value):
        return NO_FIGURE
    shown = number(value, digits, sign=sign)
    if low is not None and high is not None and not math.isnan(low):
        shown += f" ({number(low, digits, sign=sign)} to {number(high, digits, sign=sign)})"
    missed = f", {found['infinite']} missed" if found.get("infinite") else ""
    return f"{shown}{unit}{missed}"


def p_value(p: float) -> str:
    """Return a p-value as it is written in text.

    >>> p_value(0.00001), p_value(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def picture(name: str, words: str, *, up: str = "../") -> str:
    """Return a link to a picture in ``images``, to which ``up`` leads from the page's folder."""
    return f"![{words}]({up}images/{name})"


Summary = Mapping[str, Any]  # what a measuring command wrote

Summaries = Mapping[str, Summary | None]  # by file name without ending; None where there is no file


@dataclass(frozen=True)
class Chapter:
    """A page of one measurement, made of its summary.

    ``record`` names summary and page, without ending. Of an empty summary, claims are beside
    nothing. Pictures are by file name; None where there is none yet.
    """

    title: str
    command: str
    record: str
    body: Callable[[Summary], list[str]]
    claims: Callable[[Summary], list[Claim]]
    pictures: Mapping[str, Callable[[Summary], Figure | None]] = field(default_factory=dict)

    def section(self, found: Summary | None) -> Section:
        """Return the page of a summary; without one nothing is measured."""
        body = [] if found is None else self.body(found)
        shared = (self.record, self.title, self.command, body, self.claims(found or {}))
        return Section(*shared, measured=found is not None)


INTERVALS = "Intervals are 95% bootstrap intervals over patients."


def machine_words(found: Summary) -> str:
    """Say what the timings were taken on."""
    machine = found["machine"]
    threads = machine["threads"]
    return (
        f"{machine['processor']} ({machine['instructions']}), {threads} "
        f"thread{'s' * (threads != 1)}, torch {machine['torch']}."
    )


def models_of(found: Summary) -> list[Summary]:
    """Return what names weights in a summary, each once, wherever it stands."""
    if {"name", "weights", "trained_steps"} <= set(found):
        return [found]
    models: list[Summary] = []
    for inner in found.values():
        if isinstance(inner, Mapping):
            models += [model for model in models_of(inner) if model not in models]
    return models


def weights_words(found: Summary) -> str:
    """Name the weights that were measured."""
    named = [
        f"`{model['name']}` {model['weights']} ({model['trained_steps']} steps of {model['batch']})"
        for model in models_of(found)
    ]
    return f"Weights: {', '.join(named)}."


def command_of(module: str, options: str = "--data DATA") -> str:
    """Return what is typed to measure."""
    return f"python -m {module} {options}".strip()


def basis(found: Summary, words: str = "") -> str:
    """Name the weights that were measured, and what intervals are; with words in between."""
    return " ".join(filter(None, (weights_words(found), words, INTERVALS)))


ORIGINS = (
    "What each summary in `results/` says of itself; `+` behind a commit means that the code had "
    "been changed since. Records made before this was kept have none. *Older* weights are not "
    "those that ship now under the name, so their figures may not hold for these. Comparisons, "
    "ablations and studies keep the same in a `run.json` beside each."
)


def origins(summaries: Summaries) -> str:
    """Return the part of the page that has a line for each record; empty without any."""
    rows = [_origin(name, found) for name, found in summaries.items() if found is not None]
    if not rows:
        return ""
    head = ["record", "weights", "commit", "ddmseg", "torch", "python", "seed"]
    return f"## Where the figures are from\n\n{ORIGINS}\n\n{table(head, rows)}"


def is_older(model: Summary) -> bool:
    """Say whether other weights ship now under the model's name."""
    now = _shipped().get(model["name"])
    return now is not None and not now.startswith(model["weights"])


@cache
def _shipped() -> dict[str, str]:
    return {card.name: card.checksum for card in shipped_cards()}


def _origin(name: str, found: Summary) -> list[str]:
    # What older records lack of the code may stand with the machine.
    made = {**found.get("machine", {}), "seed": found.get("seed"), **found.get("provenance", {})}
    weights = [
        f"`{model['name']}` {model['weights']}{', older' * is_older(model)}"
        for model in models_of(found)
    ]
    of_code = [made.get(key) for key in ("commit", "ddmseg", "torch", "python", "seed")]
    shown = [NO_FIGURE if one is None else str(one) for one in of_code]
    return [f"`{name}.json`", "; ".join(weights) or NO_FIGURE, *shown]
