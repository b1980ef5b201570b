"""The documents: what records, cards and shipped tables say, put into ``templates``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddmseg import __version__
from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card
from ddmseg_lab import template
from ddmseg_lab.dossier.figures import Measured, figures, shipped_table
from ddmseg_lab.dossier.records import JunitRun
from ddmseg_lab.page import INTERVALS, NOT_MEASURED, Target

Read = Callable[[str], Measured]
"""From the name of a figure to what was measured."""
NOTICE = "Research use, not for diagnosis."


def render(name: str, **values: Any) -> str:
    """Return a document of ``templates``, which begins with what it may be used for."""
    shared = {"notice": NOTICE, "version": __version__}
    return template.render("ddmseg_lab.dossier", name, **shared, **values)


def anomalies() -> list[dict[str, Any]]:
    """Return what is known to be wrong, missing or easily misunderstood."""
    return [{"figures": (), "models": (), **row} for row in shipped_table("anomalies")["anomaly"]]


def anomalies_document(read: Read) -> str:
    """Return the list of anomalies with what was measured of them."""
    return render("anomalies.md", anomalies=anomalies(), read=read)


@dataclass(frozen=True)
class Places:
    """Where answers can lie: folders, cards of models, documents that are written together."""

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
    headings = {line.lstrip("# ").strip() for line in lines if line.startswith("#")}
    return not heading or heading in headings


def checklist_document(places: Places) -> str:
    """Return the checklist; an item whose answer is not there is not answered."""
    items = [{**item, **_answer(item, places)} for item in shipped_table("checklist")["item"]]
    return render("checklist.md", items=items, counts=Counter(item["state"] for item in items))


def _answer(item: Mapping[str, Any], places: Places) -> dict[str, str]:
    """Return whether an item is answered, and where or why not."""
    wanted, lacking = item.get("where", ()), item.get("lacking", "")
    there = [f"`{where}`" for where in wanted if places.holds(where)]
    gone = [f"`{where}` is not there" for where in wanted if not places.holds(where)]
    state = "not answered"
    if there:
        state = "answered in part" if lacking or gone else "answered"
    return {"state": state, "answer": "; ".join(filter(None, [", ".join(there), lacking, *gone]))}


State = Literal["met", "not met", "open"]


@dataclass(frozen=True)
class Proof:
    """One test file, test or figure, and how it went."""

    name: str
    result: str
    state: State


@dataclass(frozen=True)
class Requirement:
    """What has to be, with its proofs."""

    identifier: str
    text: str
    proofs: Sequence[Proof]

    @property
    def state(self) -> State:
        """``not met`` when any proof failed, ``met`` when all are there and hold."""
        states = {proof.state for proof in self.proofs}
        if "not met" in states:
            return "not met"
        return "met" if states == {"met"} else "open"


def requirements(run: JunitRun, read: Read) -> list[Requirement]:
    """Return every requirement with its proofs."""
    found = []
    for row in shipped_table("requirements")["requirement"]:
        proofs = [_test_proof(test, run) for test in row.get("tests", ())]
        proofs += [_figure_proof(bound, read) for bound in row.get("figures", ())]
        found.append(Requirement(row["id"], row["text"], proofs))
    return found


def requirements_document(found: Sequence[Requirement], run: JunitRun) -> str:
    """Return the matrix of requirements, tests and results."""
    counts = Counter(one.state for one in found)
    return render("requirements.md", requirements=found, counts=counts, run=run)


def _test_proof(test: str, run: JunitRun) -> Proof:
    counts, name = run.outcomes(test), f"`{test}`"
    if not counts:
        return Proof(name, "not run", "open")
    if counts["failed"]:
        return Proof(name, f"**{counts['failed']} of {counts.total()} failed**", "not met")
    told = [f"{counts[outcome]} {outcome}" for outcome in ("passed", "skipped") if counts[outcome]]
    return Proof(name, ", ".join(told), "open" if counts["skipped"] else "met")


def _figure_proof(bound: Mapping[str, Any], read: Read) -> Proof:
    measured = read(bound["figure"])
    figure, at_least = measured.figure, "at_least" in bound
    most = bound["at_least" if at_least else "at_most"]
    target = Target(figure.what, most, at_least, figure.unit, figure.digits)
    name = f"{figure.what}: {target.shown} (`results/{figure.record}`)"
    if measured.value is None:
        return Proof(name, measured.shown, "open")
    value = float(measured.value["mean"])
    holds = value >= most if at_least else value <= most
    return Proof(name, f"{measured.shown}: {target.verdict(value)}", "met" if holds else "not met")


def model_cards_document(cards: Sequence[Card], read: Read) -> str:
    """Return the cards of all models, one chapter per model."""
    of = {
        card.name: [read(name) for name, one in figures().items() if one.model == card.name]
        for card in cards
    }
    return render(
        "model_card.md",
        cards=cards,
        measured=of,
        structures={card.name: [structure(i).name for i in card.labels[1:]] for card in cards},
        pointers={c.name: [one for one in anomalies() if c.name in one["models"]] for c in cards},
        known=shipped_table("models"),
        flat=flat,
        missing=NOT_MEASURED.capitalize(),
        intervals=INTERVALS,
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return every setting with the sections that lead to it."""
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
