"""The temperature sigma_D, where it can be set without training: ensemble weights and guidance.

Letters: K samples, w_k their weights; 1 / sum w_k^2 is the effective number of samples (Kish
1965), K for equal weights and 1 when one sample has all the weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from ddmseg.datasets.subject import Subject
from ddmseg.networks.sampling import Guidance
from ddmseg_lab.figures import BLUE, GREY, ORANGE, line_with_bars, name_ticks
from ddmseg_lab.page import number, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.rows import Cell, Row, Rows
from ddmseg_lab.statistics_text import SIGMA_D, Comparison, against_words, difference_words
from ddmseg_lab.studies.encoded import EncodedSubject, weighted_mean
from ddmseg_lab.study import Study, Trained, noise_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENSEMBLE = 8
"""Samples that are weighted; more than usual, so that weights have something to choose from."""
WEIGHT_TEMPERATURES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, math.inf)
GUIDANCE_TEMPERATURES = (math.inf, 10.0, 3.0, 1.0, 0.3, 0.1)  # infinity is no guidance
FIRST, BEST = "first sample", "best sample by the truth"
"""What bounds the weights from below and above."""


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Weigh one set of samples in all ways, then guide one sample in all ways."""
    encoded = EncodedSubject(trained, subject)
    drawn = encoded.samples(noise_of(number), ENSEMBLE)

    def row(part: str, temperature: float, effective: float, p: Tensor) -> Row:
        shared: Row = {"part": part, "temperature": temperature, "effective_samples": effective}
        return {**shared, **encoded.score(p)}

    for temperature in WEIGHT_TEMPERATURES:
        w = encoded.weights(drawn, temperature)
        effective = 1 / float(w.double().square().sum())
        yield row("weights", temperature, effective, weighted_mean(drawn, w))
    singles = [row("single", math.nan, 1.0, p) for p in drawn]
    yield {**singles[0], "part": FIRST}
    yield {**max(singles, key=lambda one: float(one["dice"])), "part": BEST}
    for temperature in GUIDANCE_TEMPERATURES:
        guided = math.isfinite(temperature)
        guidance = Guidance("energy", 1.0, temperature) if guided else Guidance()
        p = encoded.sample(noise_of(number), guidance=guidance)
        yield row("guidance", temperature, 1.0, p)


def _weights(rows: Rows) -> Iterator[str]:
    weighted = rows.where(part="weights")
    tests = weighted.compare("dice", "temperature", math.inf)
    yield "## Weights of the ensemble"
    yield (
        f"{ENSEMBLE} samples, the same for every temperature, weighted by exp(−D/{SIGMA_D}²) of "
        f"their mean discrepancies D; without the coarse head. {SIGMA_D} = 0 keeps the sample of "
        f"the least discrepancy, {SIGMA_D} = ∞ is the plain mean."
    )
    lines = []
    for temperature in weighted.kinds("temperature"):
        some = weighted.where(temperature=temperature)
        effective = shown(some.mean("effective_samples"), 2)
        test = difference_words(tests.get(temperature))
        lines.append([*_cells(_name(temperature), some), effective, test])
    for part in (FIRST, BEST):
        lines.append([*_cells(part, rows.where(part=part)), "1.00", ""])
    heads = [f"{SIGMA_D}", "Dice", "HD95, mm", "effective samples", "Dice less that of ∞"]
    yield table(heads, lines)
    yield _tests_words(tests, "the plain mean")
    yield _choice_words(rows)


def _choice_words(rows: Rows) -> str:
    """Whether the least discrepancy picks a good sample: between the first and the best."""
    first, chosen, best = (
        some.mean("dice").mean
        for some in (
            rows.where(part=FIRST),
            rows.where(part="weights", temperature=0.0),
            rows.where(part=BEST),
        )
    )
    room = best - first
    if room <= 0:
        return "The samples of a patient are equally good, so that there is nothing to choose from."
    return (
        f"The best sample by the truth lies {number(room, 4)} above the first one drawn; choosing "
        f"by the least discrepancy brings {number(chosen - first, 4, sign=True)} of that "
        f"({number(100 * (chosen - first) / room, 0)}%)."
    )


def _guidance(rows: Rows) -> Iterator[str]:
    guided = rows.where(part="guidance")
    tests = guided.compare("dice", "temperature", math.inf)
    yield "## Energy guidance"
    yield (
        f"One sample from the same noise, its score bent by −∇D/{SIGMA_D}² at every step; "
        f"{SIGMA_D} = ∞ is no guidance."
    )
    lines = [
        [*_cells(_name(t), guided.where(temperature=t)), difference_words(tests.get(t))]
        for t in guided.kinds("temperature")
    ]
    yield table([f"{SIGMA_D}", "Dice", "HD95, mm", "Dice less that of ∞"], lines)
    yield _tests_words(tests, "sampling without guidance")


def _tests_words(tests: dict[Cell, Comparison], reference: str) -> str:
    named = {f"{SIGMA_D} = {_name(t)}": test for t, test in tests.items()}
    return against_words(named, what="mean Dice", reference=reference)


def _cells(name: str, some: Rows) -> list[str]:
    missed = sum(some.numbers("missed"))
    distance = shown(some.mean("hd95_mm"), 2)
    return [
        name,
        shown(some.mean("dice"), 4),
        f"{distance}, {missed:.0f} missed" if missed else distance,
    ]


def _name(temperature: Cell) -> str:
    return "∞" if math.isinf(float(temperature)) else f"{float(temperature):g}"


def draw(rows: Rows, figure: Figure) -> None:
    """Draw mean Dice over the temperature, for weights and for guidance."""
    left, right = figure.subplots(1, 2)
    for axes, part, colour, title in (
        (left, "weights", BLUE, "weights of the ensemble"),
        (right, "guidance", ORANGE, "energy guidance"),
    ):
        some = rows.where(part=part)
        temperatures = sorted(float(t) for t in some.kinds("temperature"))
        found = some.gains("dice", "temperature", temperatures, math.inf)
        line_with_bars(axes, range(len(found)), found, colour=colour, label=part)
        axes.axhline(0, color=GREY, linewidth=0.8)
        name_ticks(axes, range(len(found)), [_name(t) for t in temperatures])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(r"$\sigma_D$")
    left.set_ylabel(r"Dice less that of $\sigma_D$ = ∞")


TEMPERATURE = Study(
    name="temperature",
    question=(
        f"Does the temperature {SIGMA_D} of exp(−D/{SIGMA_D}²) matter in the weights of the "
        "ensemble and in energy guidance?"
    ),
    words=("part",),
    numbers=("temperature", "dice", "hd95_mm", "missed", "effective_samples"),
    measure=measure,
    parts=(_weights, _guidance),
    draw=draw,
    caption=(
        f"Mean Dice by temperature, less that of {SIGMA_D} = ∞ on the same patients, with 95% "
        "intervals"
    ),
    settings={
        "ensemble": ENSEMBLE,
        "weights": [_name(t) for t in WEIGHT_TEMPERATURES],
        "guidance": [_name(t) for t in GUIDANCE_TEMPERATURES],
    },
)
