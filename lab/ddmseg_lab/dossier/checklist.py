"""Items of a reporting checklist, each with where it is answered, or that it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.models.checkpoint import Card
from ddmseg_lab.dossier.document import document, rows
from ddmseg_lab.dossier.shipped import shipped_table

TITLE = "Checklist of reporting"
NOT_ANSWERED = "not answered"
_SOURCE = (
    "Numbers are those of CLAIM 2024 (Tejani et al. 2024, Radiology: Artificial Intelligence "
    "6:e240300); the words are ours. CLAIM is made for papers, and this is software: an answer is "
    "a place where a reader finds it, which says nothing of how good it is."
)


@dataclass(frozen=True)
class Places:
    """Where answers can lie.

    Attributes:
        docs: folder of the documentation.
        lab_docs: folder of the laboratory's pages.
        results: folder of the records.
        cards: of the shipped models.
        dossier: names of the documents that are written together.
    """

    docs: Path
    lab_docs: Path
    results: Path
    cards: Sequence[Card]
    dossier: Sequence[str]

    def holds(self, where: str) -> bool:
        """Say whether an answer is where it is said to be."""
        if where.startswith("card:"):
            field = where.removeprefix("card:")
            return bool(self.cards) and all(getattr(card, field) for card in self.cards)
        kind, _, rest = where.removeprefix("lab/").partition("/")
        if kind == "docs":
            return _has_heading(self.lab_docs if where.startswith("lab/") else self.docs, rest)
        if kind == "results":
            return (self.results / rest).is_file()
        return where in self.dossier


def _has_heading(docs: Path, place: str) -> bool:
    name, _, heading = place.partition("#")
    try:
        lines = (docs / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return not heading or any(
        line.startswith("#") and line.lstrip("# ").strip() == heading for line in lines
    )


def checklist_document(places: Places) -> str:
    """Return the checklist; an item whose answer is not there is not answered."""
    states: Counter[str] = Counter()
    body = []
    for item in shipped_table("checklist")["item"]:
        state, answer = _answer(item, places)
        states[state] += 1
        shown = f"**{state}**" if state == NOT_ANSWERED else state
        body.append([str(item["number"]), item["section"], item["asks"], shown, answer])
    told = ", ".join(
        f"{states[state]} {state}" for state in ("answered", "answered in part", NOT_ANSWERED)
    )
    header = ["item", "section", "it asks", "it is", "where, and what is lacking"]
    return document(TITLE, [_SOURCE, f"{len(body)} items: {told}.", rows(header, body)])


def _answer(item: Mapping[str, Any], places: Places) -> tuple[str, str]:
    """Return whether an item is answered, and where or why not."""
    wanted, lacking = item.get("where", ()), item.get("lacking", "")
    there = [f"`{where}`" for where in wanted if places.holds(where)]
    gone = [f"`{where}` is not there" for where in wanted if not places.holds(where)]
    told = "; ".join([", ".join(there)] * bool(there) + [lacking] * bool(lacking) + gone)
    if not there:
        return NOT_ANSWERED, told
    return ("answered in part" if lacking or gone else "answered"), told
