"""How many steps are needed, and how fast the sampling error falls with them.

The error of a sample is the root mean square distance of a clean-mask estimate (the mask
encoding's expectation, in [-b, b]) from that of a fine reference that began with the same
noise.  Two estimates are compared: the final ones, and those at the time of the sample's last
evaluation, t_N = t_min + (1 - t_min) / N for N steps.  The second is the error of the path
alone: the final estimates also differ because the last evaluation comes at less noise the more
steps there are.  An error that falls as N^-q has order q; q is the slope of its logarithm
over that of the steps, by least squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ddmseg.datasets.subject import Subject
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.statistics import Interval
from ddmseg_lab.figures import BLUE, GREEN, GREY, ORANGE, line_with_bars, name_ticks
from ddmseg_lab.page import number, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.rows import Cell, Row, Rows
from ddmseg_lab.statistics_text import (
    Comparison,
    against_words,
    counted,
    difference_words,
    interval,
    listed,
)
from ddmseg_lab.studies.encoded import EncodedSubject
from ddmseg_lab.study import Study, Trained, noise_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LADDER = (1, 2, 3, 5, 10, 25, 50, 100, 200)
ALGORITHMS = ("ddim", "dpm", "ddpm")
PATHWISE = ("ddim", "dpm")
"""Samplers that follow one path from given noise; ancestral sampling draws new noise."""
REFERENCE, FINE_STEPS, HALF_STEPS = "dpm", 1000, 500
"""The fine reference; with half as many steps it tells how far it can be trusted."""
ERROR_SUBJECTS = 10
"""The reference needs a thousand steps a subject, so only the first so many have one."""
FITTED = (5, 200)
"""Steps that the order is fitted on: fewer are not yet in the regime of small steps."""
TOLERANCE = 0.005  # half a Dice point
FINE_ENOUGH = 0.1  # of the smallest error, that halving the reference's steps may move it by
SINGLE, OWN = "one sample", "own settings"
ERRORS = {"error": "final estimates", "path_error": "at the same time"}
"""Columns of errors, and what is compared."""
_NO_ERRORS: Row = dict.fromkeys(ERRORS, math.nan)


class Watch:
    """Keeps the estimates of some steps, numbered from 0."""

    def __init__(self, steps: Iterable[int]) -> None:
        self.steps = set(steps)
        self.seen: dict[int, Tensor] = {}

    def __call__(self, step: int, said: Callable[[], Tensor]) -> None:
        """Take the class probabilities of a step."""
        if step in self.steps:
            self.seen[step] = said()


def same_time(steps: int) -> int | None:
    """Return the step of the reference at the time of the last of ``steps``, if there is one.

    >>> same_time(1), same_time(5), same_time(3)
    (0, 800, None)
    """
    return None if FINE_STEPS % steps else FINE_STEPS - FINE_STEPS // steps


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Sample with every sampler and number of steps from the same noise."""
    encoded = EncodedSubject(trained, subject)
    fine = None
    if number < ERROR_SUBJECTS:
        fine = Watch([FINE_STEPS - 1, *(at for s in LADDER if (at := same_time(s)) is not None)])
        encoded.sample(noise_of(number), algorithm=REFERENCE, steps=FINE_STEPS, observe=fine)
        yield _row(encoded, number, REFERENCE, HALF_STEPS, fine)[0]
    for algorithm in ALGORITHMS:
        for steps in LADDER:
            watched = fine if algorithm in PATHWISE else None
            row, p = _row(encoded, number, algorithm, steps, watched)
            yield row
            if algorithm == "ddim":
                joined = encoded.answer([p, *_others(encoded, number, steps)])
                yield {**row, "answer": OWN, "dice": encoded.score(joined)["dice"], **_NO_ERRORS}


def _row(
    encoded: EncodedSubject, number: int, algorithm: str, steps: int, fine: Watch | None
) -> tuple[Row, Tensor]:
    watch = Watch([steps - 1])
    p = encoded.sample(noise_of(number), algorithm=algorithm, steps=steps, observe=watch)
    row: Row = {"sampler": algorithm, "answer": SINGLE, "steps": float(steps)}
    row |= {"dice": encoded.score(p)["dice"], **_NO_ERRORS}
    if fine is not None:
        encoding, last = encoded.trained.model.mask_encoding, watch.seen[steps - 1]
        row["error"] = distance(encoding, last, fine.seen[FINE_STEPS - 1])
        if (at := same_time(steps)) in fine.seen:
            row["path_error"] = distance(encoding, last, fine.seen[at])
    return row, p


def _others(encoded: EncodedSubject, number: int, steps: int) -> list[Tensor]:
    """Draw the rest of the card's samples, from the noise that follows that of the first."""
    generator = noise_of(number)
    encoded.sample(generator, algorithm="one-step")
    return encoded.samples(generator, encoded.own.samples - 1, algorithm="ddim", steps=steps)


def distance(encoding: MaskEncoding, one: Tensor, other: Tensor) -> float:
    """Return the root mean square distance of two masks, given as probabilities."""
    gap = encoding.of_probabilities(one) - encoding.of_probabilities(other)
    return math.sqrt(float(gap.square().double().sum()) / gap.numel())


def _lines(rows: Rows) -> dict[str, Rows]:
    ladder = rows.among("steps", tuple(float(s) for s in LADDER))
    found = {
        f"{sampler}, one sample": ladder.where(sampler=sampler, answer=SINGLE)
        for sampler in ALGORITHMS
    }
    found["ddim, own settings"] = ladder.where(sampler="ddim", answer=OWN)
    return found


def _dice_part(rows: Rows) -> Iterator[str]:
    most = float(LADDER[-1])
    lines = _lines(rows)
    tests = {name: some.compare("dice", "steps", most) for name, some in lines.items()}
    yield "## Dice"
    yield (
        "One sample without the coarse head, from the same noise at every number of steps; and "
        "with the card's own settings, that is its number of samples joined with the coarse head."
    )
    body = [
        [str(s), *(shown(some.where(steps=s).mean("dice"), 4) for some in lines.values())]
        for s in LADDER
    ]
    yield table(["steps", *lines], body)
    yield f"The same, less that of {LADDER[-1]} steps on the same patients:"
    body = [[str(s), *(difference_words(found.get(s)) for found in tests.values())] for s in LADDER]
    yield table(["steps", *lines], body)
    for name, found in tests.items():
        named = {counted(int(float(steps)), "step"): test for steps, test in found.items()}
        words = against_words(named, what="mean Dice", reference=f"{LADDER[-1]} steps")
        yield f"**{name}.** {_enough_words(found)} {words}"
    yield _samplers_words(rows)


def smallest_enough(found: Mapping[Cell, Comparison]) -> int:
    """Return the least steps from which on the mean stays within the tolerance of the most."""
    enough = LADDER[-1]
    for steps in reversed(LADDER[:-1]):
        if not abs(found[steps].difference.mean) <= TOLERANCE:
            break
        enough = steps
    return enough


def _enough_words(found: Mapping[Cell, Comparison]) -> str:
    enough = smallest_enough(found)
    if enough == LADDER[-1]:
        return f"No number of steps below {enough} stays within 0.5 Dice points of it."
    unsure = [
        str(steps)
        for steps in LADDER[:-1]
        if steps >= enough and _reach(found[steps].difference) > TOLERANCE
    ]
    words = f"{counted(enough, 'step')} and more stay within 0.5 Dice points of {LADDER[-1]}"
    if unsure:
        return f"{words}; the interval reaches beyond that with {listed(unsure)}."
    return f"{words}, intervals included."


def _reach(found: Interval) -> float:
    return float(np.nanmax(np.abs([found.mean, found.low, found.high])))


def _samplers_words(rows: Rows) -> str:
    some = rows.where(answer=SINGLE, steps=10).among("sampler", ALGORITHMS)
    tests = some.compare("dice", "sampler", "ddim")
    named = {str(name): test for name, test in tests.items()}
    words = against_words(named, what="mean Dice of one sample", reference="ddim")
    return f"**Samplers at 10 steps.** {words}"


def _error_part(rows: Rows) -> Iterator[str]:
    measured = rows.known("error")
    yield "## Sampling error"
    if not len(measured):
        yield "The sampling error was not measured."
        return
    yield (
        "Root mean square distance of the clean-mask estimate from that of a reference of "
        f"{FINE_STEPS} steps of DPM-Solver++(2M) (`{REFERENCE}`) from the same noise, on "
        f"{counted(len(measured.subjects), 'subject')}: of the final estimates, and of that at the "
        "time of the last evaluation, which is the error of the path alone. Ancestral sampling "
        "(`ddpm`) has no such error: it draws new noise at every step, so that more steps give "
        "another sample and not a better approximation of the same; its Dice is above."
    )
    named = [(algorithm, column) for column in ERRORS for algorithm in PATHWISE]
    body = [[str(s), *(shown(_errors(rows, a, s, c).mean(c), 5) for a, c in named)] for s in LADDER]
    order = [shown(fitted_order(rows, a, c), 2) for a, c in named]
    body.append([f"order, {FITTED[0]} to {FITTED[1]} steps", *order])
    yield table(["steps", *(f"{a}, {ERRORS[c]}" for a, c in named)], body)
    yield from (_order_words(rows, column) for column in ERRORS)
    yield _reference_words(rows)


def _errors(rows: Rows, algorithm: str, steps: int, column: str) -> Rows:
    return rows.known(column).where(sampler=algorithm, answer=SINGLE, steps=steps)


def fitted_order(rows: Rows, algorithm: str, column: str) -> Interval:
    """Return the order of a sampler: the fitted slope of each subject, their mean and interval."""
    some = rows.known(column).where(sampler=algorithm, answer=SINGLE).among("steps", LADDER)
    orders = []
    for subject in some.subjects:
        points = [
            (float(row["steps"]), float(row[column]))
            for row in some.where(subject=subject).rows
            if FITTED[0] <= float(row["steps"]) <= FITTED[1] and float(row[column]) > 0
        ]
        if len(points) > 1:
            x, y = np.log(np.array(points)).T
            orders.append(-float(np.polyfit(x, y, 1)[0]))
    return interval(orders)


def _order_words(rows: Rows, column: str) -> str:
    first, second = (fitted_order(rows, a, column) for a in PATHWISE)
    told = (
        f"**{ERRORS[column].capitalize()}.** The fitted order is {shown(first, 2)} for `ddim`, "
        f"which is of first order by its construction, and {shown(second, 2)} for `dpm`, which is "
        "of second."
    )
    if math.isnan(first.low) or math.isnan(second.low):
        return f"{told} With one subject the two cannot be told apart."
    if second.low > first.high:
        told += " The error of `dpm` falls faster."
    elif second.high < first.low:
        told += " The error of `dpm` falls more slowly."
    else:
        told += " The two are not told apart."
    if column == "path_error" and second.high < 2:
        told += (
            " Order 2 is not reached. It is promised for a network that sees the noisy mask and "
            "the time alone; this one may also see the discrepancy of its estimate of the step "
            "before, which changes with the length of a step."
        )
    if column == "error" and first.high < 1:
        told += (
            " Order 1 is not reached: the final estimate is the network's at its last evaluation, "
            "at a noise level that depends on the number of steps."
        )
    return told


def _reference_words(rows: Rows) -> str:
    half = _errors(rows, REFERENCE, HALF_STEPS, "error").mean("error")
    least = _errors(rows, REFERENCE, LADDER[-1], "error").mean("error").mean
    share = half.mean / least if least > 0 else math.nan
    words = (
        f"With {HALF_STEPS} steps the reference's final estimate lies {shown(half, 5)} from that "
        f"of {FINE_STEPS}, {number(100 * share, 0)}% of the error at {LADDER[-1]} steps"
    )
    if share <= FINE_ENOUGH:
        return f"{words}: fine enough for every error here."
    return f"{words}: near {LADDER[-1]} steps the error of the reference itself counts."


def draw(rows: Rows, figure: Figure) -> None:
    """Draw Dice and sampling error over the steps."""
    left, right = figure.subplots(1, 2)
    colours = dict(zip(_lines(rows), (BLUE, ORANGE, GREEN, GREY), strict=True))
    for name, some in _lines(rows).items():
        found = some.gains("dice", "steps", LADDER, float(LADDER[-1]))
        line_with_bars(left, LADDER, found, colour=colours[name], label=name)
    left.axhspan(-TOLERANCE, TOLERANCE, color=GREY, alpha=0.15, linewidth=0)
    left.set_ylabel(f"Dice less that of {LADDER[-1]} steps")
    _draw_errors(right, rows)
    for axes in (left, right):
        axes.set_xscale("log")
        name_ticks(axes, LADDER, [str(s) for s in LADDER])
        axes.set_xlabel("steps")
        axes.legend(fontsize=8, frameon=False)


def _draw_errors(axes: Axes, rows: Rows) -> None:
    for algorithm, colour in zip(PATHWISE, (BLUE, ORANGE), strict=True):
        for column, style in zip(ERRORS, ("-", "--"), strict=True):
            found = {s: _errors(rows, algorithm, s, column).mean(column) for s in LADDER}
            drawn = {s: one for s, one in found.items() if one.mean > 0}
            order = number(fitted_order(rows, algorithm, column).mean, 2)
            label = f"{algorithm}, {ERRORS[column]}, order {order}"
            x, y = list(drawn), list(drawn.values())
            line_with_bars(axes, x, y, colour=colour, label=label, style=style)
    axes.set_yscale("log")
    axes.set_ylabel("distance from the reference (RMS)")


STEPS = Study(
    name="steps",
    question="How many sampling steps are needed, and how does the sampling error fall with them?",
    words=("sampler", "answer"),
    numbers=("steps", "dice", *ERRORS),
    measure=measure,
    parts=(_dice_part, _error_part),
    draw=draw,
    caption=(
        "Left: mean Dice less that of 200 steps on the same patients, 0.5 Dice points shaded; "
        "right: sampling error against a fine reference; both with 95% intervals"
    ),
    inches=(10.5, 4.4),
    settings={
        "steps": list(LADDER),
        "samplers": list(ALGORITHMS),
        "reference": f"{REFERENCE}, {FINE_STEPS} and {HALF_STEPS} steps",
        "error_subjects": ERROR_SUBJECTS,
    },
)
