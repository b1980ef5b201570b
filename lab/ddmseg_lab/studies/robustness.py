"""Scans made worse in eight ways and five levels: what is lost, and whether anybody is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ddmseg.datasets.subject import Subject
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.repairs import WIDEST_MM, fill_empty_slices
from ddmseg.maths.statistics import Interval
from ddmseg.quality.assessment import judge
from ddmseg.quality.limits import Limits
from ddmseg.quality.plausibility import empty_slices
from ddmseg.randomness import seeded
from ddmseg_lab.figures import COLOURS, GREY, line_with_bars, name_ticks
from ddmseg_lab.page import Claim, claim, number, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.rows import Row, Rows
from ddmseg_lab.statistics_text import (
    Comparison,
    as_dict,
    auroc_of,
    compare_sets,
    counted,
    interval,
    least_words,
    listed,
    p_words,
    too_few,
)
from ddmseg_lab.studies.artefacts import ARTEFACTS, LEVELS, degrade
from ddmseg_lab.studies.encoded import EncodedSubject
from ddmseg_lab.study import SEED, Study, Trained, noise_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTACT = "intact"
GOOD_DICE = 0.8  # a mask below it is one that quality control should notice
PATTERN_SEED = SEED + 2
VERDICTS = ("pass", "warn", "fail")
DODGE = 0.05  # between lines of the picture, so that their bars do not hide each other
EACH_LEVEL = range(1, LEVELS + 1)
Condition = tuple[str, int]


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Segment the scan as it is and with each artefact at each level, from the same noise."""
    yield _row(trained, subject, number, INTACT, 0)
    for name in ARTEFACTS:
        for level in EACH_LEVEL:
            yield _row(trained, subject, number, name, level)


def _row(trained: Trained, subject: Subject, number: int, artefact: str, level: int) -> Row:
    image = subject.image
    if artefact != INTACT:
        place = number * len(ARTEFACTS) + list(ARTEFACTS).index(artefact)
        generator = seeded(PATTERN_SEED, place)
        image = degrade(image, artefact, level, generator, slice_axis=subject.slice_axis)
    # A bad scan is prepared as any other; so is the intact one, for equal terms.
    filled = [fill_empty_slices(channel.numpy(), subject.spacing_mm) for channel in image]
    prepared = torch.stack([normalise(torch.from_numpy(channel)) for channel, _ in filled])
    encoded = EncodedSubject(trained, subject, prepared)
    p = encoded.own_answer(noise_of(number))
    assessment = encoded.assess(p)
    told = list(empty_slices(filled[0][1]))  # an artefact is the same in every channel
    quality = judge(trained.card, encoded.spent(p), assessment, seen=told)
    return {
        "artefact": artefact,
        "level": float(level),
        "verdict": quality.verdict,
        "dice": encoded.score(p)["dice"],
        "expected": assessment.expected_dice,
        "limit": Limits.of(trained.card).passes,
    }


def _names(rows: Rows) -> list[str]:
    return [name for name in ARTEFACTS if name in rows.kinds("artefact")]


def relative_loss(rows: Rows, condition: Condition) -> dict[str, float]:
    """Return by patient the share of the intact Dice that is lost; negative is a gain."""
    intact = rows.where(artefact=INTACT).by_subject("dice")
    worse = rows.where(artefact=condition[0], level=float(condition[1])).by_subject("dice")
    return {p: 1 - worse[p] / intact[p] for p in worse if intact.get(p, 0.0) > 0}


def _tests(rows: Rows) -> dict[Condition, Comparison]:
    values = {
        (name, level): rows.where(artefact=name, level=float(level)).by_subject("dice")
        for name in _names(rows)
        for level in EACH_LEVEL
    }
    return compare_sets(rows.where(artefact=INTACT).by_subject("dice"), values)


def _losses(rows: Rows) -> Iterator[str]:
    intact = rows.where(artefact=INTACT).mean("dice")
    yield "## What is lost"
    yield (
        f"Relative loss of Dice in percent of the intact scan's {shown(intact)}, by level; level "
        "5 is the worst. Strengths are for intensities normalised to about 0 to 1."
    )
    levels = [f"level {n}" for n in EACH_LEVEL]
    body = [
        [ARTEFACTS[name].title, *(shown(one, 1) for one in _percent_lost(rows, name))]
        for name in _names(rows)
    ]
    yield table(["artefact", *levels], body)
    body = [[one.title, one.unit, *(f"{s:g}" for s in one.strengths)] for one in ARTEFACTS.values()]
    yield table(["artefact", "strength is", *levels], body)
    yield from _loss_words(rows)


def _percent_lost(rows: Rows, name: str) -> list[Interval]:
    """Return the relative loss at each level, in percent."""
    losses = [relative_loss(rows, (name, n)).values() for n in EACH_LEVEL]
    return [interval([100 * v for v in one]) for one in losses]


def _loss_words(rows: Rows) -> Iterator[str]:
    tests = _tests(rows)
    if not tests:
        return
    if (patients := too_few(tests)) is not None:
        yield f"With {counted(patients, 'patient')} no test can find a loss."
    else:
        names = dict.fromkeys(name for name, _ in tests)
        yield "\n".join(_artefact_words(name, tests) for name in names)
    worst = max(tests, key=lambda one: -tests[one].difference.mean)
    yield (
        f"The largest change is that of {ARTEFACTS[worst[0]].title} at level {worst[1]}: "
        f"{number(tests[worst].difference.mean, 3, sign=True)} Dice."
    )


def _artefact_words(name: str, tests: dict[Condition, Comparison]) -> str:
    title = ARTEFACTS[name].title
    parts = []
    for word, sign in (("lower", -1), ("higher", 1)):
        at = [
            n
            for n in EACH_LEVEL
            if tests[name, n].found and sign * tests[name, n].difference.mean > 0
        ]
        if at:
            first = tests[name, at[0]]
            levels = f"level{'s' * (len(at) > 1)} {listed([str(n) for n in at])}"
            parts.append(
                f"{word} at {levels} ({number(first.difference.mean, 4, sign=True)}, "
                f"{p_words(first.p_holm)}{f' at level {at[0]}' if len(at) > 1 else ''})"
            )
    if parts:
        return f"- {title}: Dice is {' and '.join(parts)}."
    least = min(tests[name, n].p_holm for n in EACH_LEVEL)
    return f"- {title}: no effect was found at any level ({least_words(least)})."


def _quality(rows: Rows) -> Iterator[str]:
    yield "## Does quality control notice?"
    limit = rows.numbers("limit")[0]
    yield (
        f"AUROC of 1 − expected Dice for a Dice below {GOOD_DICE}, over all scans, intact and "
        f"worse; and the verdicts, which pass from an expected Dice of {limit:g} on."
    )
    known = rows.known("dice")
    body = []
    for name in ("all", *_names(rows)):
        some = known if name == "all" else known.among("artefact", (INTACT, name))
        bad = sum(value < GOOD_DICE for value in some.numbers("dice"))
        title = "all" if name == "all" else ARTEFACTS[name].title
        body.append([title, f"{bad} of {len(some)}", shown(noticed(some))])
    yield table(["scans", f"Dice below {GOOD_DICE}", "AUROC"], body)
    yield table(["Dice", *VERDICTS], _verdict_table(known))
    yield from _quality_words(known)


def noticed(rows: Rows) -> Interval:
    """Return the AUROC of 1 - expected Dice for a Dice below ``GOOD_DICE``, with its interval."""
    return rows.pooled(lambda pairs: auroc_of(-pairs, -GOOD_DICE), "expected", "dice")


def claims(rows: Rows) -> list[Claim]:
    """That the expected Dice ranks bad scans below good ones."""
    what = f"quality control: AUROC for a Dice below {GOOD_DICE}, intact and worse scans"
    return [claim(what, 0.9, as_dict(noticed(rows)) if len(rows) else None)]


def _verdict_table(rows: Rows) -> list[list[str]]:
    good, bad = _good_and_bad(rows)
    groups = {f"{GOOD_DICE} or more": good, f"below {GOOD_DICE}": bad}
    for level in range(LEVELS + 1):
        groups[f"any, level {level}"] = rows.where(level=float(level)).words("verdict")
    body = []
    for name, verdicts in groups.items():
        counts = [verdicts.count(v) for v in VERDICTS]
        cells = [f"{100 * c / len(verdicts):.1f}% ({c})" if verdicts else "–" for c in counts]
        body.append([name, *cells])
    return body


def _good_and_bad(rows: Rows) -> tuple[list[str], list[str]]:
    """Return the verdicts of scans with a good Dice, and of those with a worse one."""
    found: tuple[list[str], list[str]] = ([], [])
    for verdict, dice in zip(rows.words("verdict"), rows.numbers("dice"), strict=True):
        found[dice < GOOD_DICE].append(verdict)
    return found


def _quality_words(rows: Rows) -> Iterator[str]:
    good, bad = _good_and_bad(rows)
    if not bad or not good:
        kind = "above" if good else "below"
        yield f"All scans lie {kind} {GOOD_DICE}, so that there is nothing to tell apart."
        return
    missed, alarms = bad.count("pass"), len(good) - good.count("pass")
    yield (
        f"Of {counted(len(bad), 'scan')} with a Dice below {GOOD_DICE}, {missed} pass unnoticed "
        f"({number(100 * missed / len(bad), 1)}%); of {counted(len(good), 'scan')} with more, "
        f"{alarms} do not pass ({number(100 * alarms / len(good), 1)}%)."
    )
    found = noticed(rows)
    if math.isnan(found.low):
        return
    does, beyond = ("ranks", "better than") if found.low > 0.5 else ("does not rank", "beyond")
    yield f"The expected Dice {does} bad scans below good ones {beyond} chance: {shown(found)}."


def draw(rows: Rows, figure: Figure) -> None:
    """Draw the relative loss over the level, and expected against true Dice."""
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    right.plot([0, 1], [0, 1], color="black", linewidth=0.7)
    names = _names(rows)
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        places, title = [n + DODGE * (place - 3.5) for n in EACH_LEVEL], ARTEFACTS[name].title
        line_with_bars(left, places, _percent_lost(rows, name), colour=colour, label=title)
        some = rows.where(artefact=name)
        right.scatter(some.numbers("expected"), some.numbers("dice"), s=5, color=colour, alpha=0.6)
    left.axhline(0, color=GREY, linewidth=0.8)
    name_ticks(left, EACH_LEVEL, [str(n) for n in EACH_LEVEL])
    left.set_xlabel("level")
    left.set_ylabel("relative loss of Dice, %")
    left.legend(fontsize=8, frameon=False, ncols=2)
    right.axhline(GOOD_DICE, color=GREY, linewidth=0.8, linestyle=":")
    right.axvline(rows.numbers("limit")[0], color=GREY, linewidth=0.8, linestyle=":")
    right.set_xlabel("expected Dice")
    right.set_ylabel("true Dice")


ROBUSTNESS = Study(
    name="robustness",
    question="What do artefacts of the scan cost, and does quality control notice?",
    words=("artefact", "verdict"),
    numbers=("level", "dice", "expected", "limit"),
    measure=measure,
    parts=(_losses, _quality),
    draw=draw,
    caption=(
        "Left: relative loss of Dice by level, with 95% intervals; right: expected against true "
        "Dice of every worse scan, dotted where one should notice and where one does"
    ),
    inches=(11.0, 4.4),
    settings={
        "artefacts": {name: list(one.strengths) for name, one in ARTEFACTS.items()},
        "pattern_seed": PATTERN_SEED,
        "widest_gap_filled_mm": WIDEST_MM,
    },
    claims=claims,
)
