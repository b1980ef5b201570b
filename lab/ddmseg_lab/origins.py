"""Which code and which weights each record is of."""

from __future__ import annotations

from functools import cache

from ddmseg.models.zoo import shipped_cards
from ddmseg_lab.page import NO_FIGURE, Summaries, Summary, models_of, table

TITLE = "Where the figures are from"
WORDS = (
    "What each summary in `results/` says of itself; `+` behind a commit means that the code had "
    "been changed since. Records made before this was kept have none. *Older* weights are not "
    "those that ship now under the name, so their figures may not hold for these. Comparisons, "
    "ablations and studies keep the same in a `run.json` beside each."
)
KEYS = ("commit", "ddmseg", "torch", "python")
"""Of provenance; what older records lack of it may stand with the machine."""
LETTERS = 12
"""Of a checksum in a record."""


def origins(summaries: Summaries) -> str:
    """Return the part of the page that has a line for each record; empty without any."""
    rows = [_row(name, found) for name, found in summaries.items() if found is not None]
    if not rows:
        return ""
    head = ["record", "weights", "commit", "ddmseg", "torch", "python", "seed"]
    return f"## {TITLE}\n\n{WORDS}\n\n{table(head, rows)}"


def is_older(model: Summary) -> bool:
    """Say whether other weights ship now under the model's name."""
    now = _shipped().get(model["name"])
    return now is not None and now != model["weights"]


@cache
def _shipped() -> dict[str, str]:
    return {card.name: card.checksum[:LETTERS] for card in shipped_cards()}


def _row(name: str, found: Summary) -> list[str]:
    from_code, machine = found.get("provenance", {}), found.get("machine", {})
    weights = [
        f"`{model['name']}` {model['weights']}{', older' * is_older(model)}"
        for model in models_of(found)
    ]
    versions = [str(from_code.get(key, machine.get(key, NO_FIGURE))) for key in KEYS]
    seed = from_code.get("seed", found.get("seed"))
    return [
        f"`{name}.json`",
        "; ".join(weights) or NO_FIGURE,
        *versions,
        NO_FIGURE if seed is None else str(seed),
    ]
