"""What other engines and eight bits gain in time and cost in accuracy, layer group by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ddmseg.pipeline.engines.agreement import LEAST_LABELS, MOST_PROBABILITY
from ddmseg_lab.evidence.origins import is_older
from ddmseg_lab.page import (
    NO_FIGURE,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    machine_words,
    missing,
    models_of,
    table,
    weights_words,
)

COMMAND = "python -m ddmseg_lab.speed.quantisation --data DATA"
TORCH, NOTHING = "torch", "none"
ENGINES, OFFERED = "other engines, 32 bits", "eight bits as offered"
LEAST_DICE = 0.99
"""Of torch's labels, in eight bits as they are offered: what was expected of them."""
MOST_ECE = 0.01
COLUMNS = {
    "labels_as_torch": ("labels as torch", 5),
    "dice": ("Dice with torch", 4),
    "lowest_dice": ("lowest", 3),
    "true_dice": ("Dice with the truth", 4),
    "probability_change": ("change of probability", 4),
    "ece": ("ECE", 4),
    "discrepancy_change": ("change of D", 3),
    "encode_seconds": ("s", 2),
}
"""Figures of a row: heading and digits."""
WORDS = (
    "Labels are those of the coarse head; *Dice with torch* is the mean over the structures that "
    "torch draws, *lowest* that of the structure that suffers most. The changes are of the winning "
    "class's probability and, relative to its mean, of D, both over the structures. *Dice with "
    "the truth* and ECE, of the largest probability, are against manual labels on the scan's own "
    "grid, in the structures that both draw. Seconds are processor time to encode the scan."
)

Row = Mapping[str, str]


def quantisation(summaries: Summaries) -> Section:
    """Every engine, every group of layers in eight bits, and all together."""
    title, found = "Engines and eight bits", summaries.get("quantisation")
    if found is None:
        return missing(title, COMMAND, _claims([], ""))
    rows = found["rows"]
    cells = [
        [row["engine"], row["eight_bit"], *(_cell(row, *one) for one in COLUMNS.items())]
        for row in rows
    ]
    head = ["engine", "in eight bits", *(heading for heading, _ in COLUMNS.values())]
    body = [f"{_words(found)} {WORDS}", table(head, cells)]
    return Section(title, COMMAND, body, _claims(rows, _offered(found)))


def _words(found: Summary) -> str:
    grid = "×".join(map(str, found["grid"]))
    runs, older = found["repeats"], any(map(is_older, models_of(found)))
    return (
        f"{machine_words(found)} {weights_words(found)} "
        + "**These are not the weights that ship now.** " * older
        + f"Scan: {found['scan']}, {grid} voxels for the model"
        + (", without manual labels. " if not _any(found["rows"], "ece") else ". ")
        + f"Median of {runs} run{'s' * (runs != 1)}. `--engine openvino-int8` has in eight bits "
        f"{_offered(found)}."
    )


def _offered(found: Summary) -> str:
    return f"all but {', '.join(found['kept_in_float'])}"


def _number(row: Row, name: str) -> float:
    """Return a figure; NaN where a record has none, as older ones have no ECE."""
    return float(row.get(name) or math.nan)


def _any(rows: Sequence[Row], name: str) -> bool:
    return any(not math.isnan(_number(row, name)) for row in rows)


def _cell(row: Row, name: str, shape: tuple[str, int]) -> str:
    value = _number(row, name)
    return NO_FIGURE if math.isnan(value) else f"{value:.{shape[1]}f}"


def _claims(rows: Sequence[Row], offered: str) -> list[Claim]:
    """Engines in 32 bits by the worst of them, eight bits as they are offered."""
    engines = [r for r in rows if r["eight_bit"] == NOTHING and r["engine"] != TORCH]
    torch = next((r for r in rows if r["eight_bit"] == NOTHING and r["engine"] == TORCH), {})
    eight = next((r for r in rows if r["eight_bit"] == offered), {})
    least = min((_number(row, "labels_as_torch") for row in engines), default=None)
    change = max((_number(row, "probability_change") for row in engines), default=None)
    more = _number(eight, "ece") - _number(torch, "ece")
    over = _number(eight, "encode_seconds") / _number(torch, "encode_seconds")
    return [
        Claim(Target(f"{ENGINES}: labels as torch, the least", LEAST_LABELS["fp32"]), least),
        Claim(
            _most(f"{ENGINES}: change of probability, mean", MOST_PROBABILITY["fp32"], 4), change
        ),
        Claim(
            Target(f"{OFFERED}: Dice with torch's labels", LEAST_DICE),
            _or_none(_number(eight, "dice")),
        ),
        Claim(_most(f"{OFFERED}: ECE more than torch's", MOST_ECE, 4), _or_none(more)),
        Claim(_most(f"{OFFERED}: seconds over torch's", 1.0, 2), _or_none(over)),
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _most(what: str, bound: float, digits: int) -> Target:
    return Target(what, bound, at_least=False, digits=digits)
