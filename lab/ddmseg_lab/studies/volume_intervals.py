"""From what rivals said of scans to scored intervals, none fitted on the subject it is tested on.

Made-up heads: each structure's factor is fitted on the heads of all other label maps. MALC2012:
the factors of all made-up heads; bias of the protocol by structure, and one more factor for all
structures together, from the development scans. Rescans: the interval of one scan, as fitted on
made-up heads, against the volume that the same rival finds in the other scan of the person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.maths.calibration import conformal_bound
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies.interval_scores import (
    COVERAGE,
    Fit,
    Numbers,
    fitted,
    fitted_as_shipped,
    interval_score,
    lognormal_crps,
)
from ddmseg_lab.studies.volume_scans import DEVELOPMENT, MADE_UP, TEST

FEWEST_VOXELS = 50.0
"""Of a structure in truth, on the model grid, from which on its volume is judged."""
CONSTANT, SHIPPED, SAMPLES, BOTH = "constant", "shipped", "samples", "both"
"""Rivals: one relative width; doubt by the discrepancy; samples; the mean of these by samples, as
sure as the geometric mean of the two."""
SOFT, SAMPLED = "soft", "sampled"
"""One relative width around the soft volume; what ships, of an answer that samples joined."""
KEY = ("set", "number", "index")


@dataclass(frozen=True)
class Answers:
    """What one rival said, an entry for each scan and structure, in the same order for all."""

    set: NDArray[Any]
    number: NDArray[Any]
    name: NDArray[Any]
    subject: NDArray[Any]
    kind: NDArray[Any]
    index: NDArray[Any]
    true: Numbers
    centre: Numbers
    spread: Numbers

    def where(self, chosen: NDArray[np.bool_]) -> Answers:
        """Return some of the entries."""
        return Answers(**{name: values[chosen] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Intervals:
    """Log intervals ``middle -+ reach`` of the entries of ``answers``, against ``true``."""

    answers: Answers
    middle: Numbers
    reach: Numbers
    true: Numbers

    @property
    def scores(self) -> dict[str, Numbers]:
        """Score, CRPS, width (in units of the true volume) and whether it lies inside."""
        low, high = np.exp(self.middle - self.reach), np.exp(self.middle + self.reach)
        return {
            "score": interval_score(low, high, self.true) / self.true,
            "crps": lognormal_crps(self.middle, self.reach, self.true) / self.true,
            "width": (high - low) / self.true,
            "coverage": ((low <= self.true) & (self.true <= high)).astype(np.float64),
        }


def answers_of(rows: Sequence[Mapping[str, str]]) -> dict[str, Answers]:
    """Return the answers of each rival about what all were asked.

    With constant width around the soft volume, and with samples and discrepancy together.
    """
    rivals = list(dict.fromkeys(row["rival"] for row in rows))
    tables = {n: {tuple(r[k] for k in KEY): r for r in rows if r["rival"] == n} for n in rivals}
    shared = [
        key
        for key, row in tables[SHIPPED].items()
        if float(row["true"]) >= FEWEST_VOXELS and all(key in t for t in tables.values())
    ]
    found = {name: _columns([tables[name][key] for key in shared]) for name in rivals}
    ships = found[SHIPPED]
    if SAMPLES in found:
        found[BOTH] = replace(found[SAMPLES], spread=np.sqrt(ships.spread * found[SAMPLES].spread))
    return {SOFT: replace(ships, spread=np.ones(len(shared))), **found}


def _columns(rows: Sequence[Mapping[str, str]]) -> Answers:
    words = {n: np.array([r[n] for r in rows]) for n in (*KEY, "name", "subject", "kind")}
    numbers = {n: np.array([float(r[n]) for r in rows]) for n in ("true", "centre", "spread")}
    numbers["centre"] = np.maximum(numbers["centre"], 1.0)
    return Answers(**words, **numbers)


def fits(rival: str, calibration: Answers) -> dict[str, Fit]:
    """Fit a rival on some answers, each structure that has enough of them (19) by itself."""
    fit = fitted_as_shipped if rival in (SHIPPED, SAMPLED) else fitted
    found = {}
    for index in np.unique(calibration.index):
        of = calibration.where(calibration.index == index)
        one = fit(np.log(of.true / of.centre), of.spread)
        if np.isfinite(one.factor):
            found[str(index)] = one
    return found


def intervals(answers: Answers, by_structure: Mapping[str, Fit]) -> Intervals:
    """Return the intervals of answers about structures that were fitted."""
    known = answers.where(np.isin(answers.index, list(by_structure)))
    middle, reach = np.zeros_like(known.true), np.zeros_like(known.true)
    for index, fit in by_structure.items():
        here = known.index == index
        middle[here] = fit.middle(known.centre[here], known.spread[here])
        reach[here] = fit.reach(known.spread[here])
    return Intervals(known, middle, reach, known.true)


def cross_fitted(rival: str, answers: Answers) -> Iterator[Intervals]:
    """Yield the intervals of each subject, fitted on all others."""
    for subject in np.unique(answers.subject):
        here = answers.subject == subject
        yield intervals(answers.where(here), fits(rival, answers.where(~here)))


@dataclass(frozen=True)
class Protocol:
    """What volumes drawn by hand differ in from those of made-up heads, for one rival.

    The bias is of the log, by structure; the factor widens all intervals.
    """

    bias: Mapping[str, float]
    factor: float

    def applied(self, found: Intervals) -> Intervals:
        """Return intervals of the volumes that would be drawn."""
        bias = np.array([self.bias[index] for index in found.answers.index])
        return replace(found, middle=found.middle + bias, reach=found.reach * self.factor)


def protocol(development: Intervals) -> Protocol:
    """Fit the protocol; the factor leaves out the person that it is fitted on."""
    of = development.answers
    rest = np.log(development.true) - development.middle
    scores = []
    for person in np.unique(of.subject):
        bias = _biases(of, rest, of.subject != person)
        for at in np.flatnonzero(of.subject == person):
            if of.index[at] in bias:
                off = abs(rest[at] - bias[of.index[at]])
                scores.append(off / development.reach[at])
    return Protocol(_biases(of, rest, of.subject == of.subject), conformal_bound(scores, COVERAGE))


def _biases(of: Answers, rest: Numbers, among: NDArray[np.bool_]) -> dict[str, float]:
    intact = among & (of.kind == INTACT)
    return {
        str(index): float(np.median(rest[intact & (of.index == index)]))
        for index in np.unique(of.index[intact])
    }


def drawn_intervals(rival: str, answers: Answers) -> tuple[Protocol, Intervals]:
    """Return the protocol and the intervals of the test scans for a rival."""
    by_structure = fits(rival, answers.where(answers.set == MADE_UP))
    found = protocol(intervals(answers.where(answers.set == DEVELOPMENT), by_structure))
    known = {index: fit for index, fit in by_structure.items() if index in found.bias}
    return found, found.applied(intervals(answers.where(answers.set == TEST), known))


def rescan_intervals(rival: str, answers: Answers) -> Intervals:
    """Return the intervals of scans of who was scanned twice, against the other intact scan."""
    by_structure = fits(rival, answers.where(answers.set == MADE_UP))
    found = intervals(answers.where(answers.set != MADE_UP), by_structure)
    of = found.answers
    intact = {
        (of.subject[i], of.index[i], of.name[i]): found.middle[i]
        for i in np.flatnonzero(of.kind == INTACT)
    }
    other = np.full(len(of.true), np.nan)
    for (subject, index, name), middle in intact.items():
        other[(of.subject == subject) & (of.index == index) & (of.name != name)] = np.exp(middle)
    paired = np.isfinite(other)
    return Intervals(of.where(paired), found.middle[paired], found.reach[paired], other[paired])
