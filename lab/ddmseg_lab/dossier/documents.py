"""The documents: model cards, checklist, requirements and anomalies, each from records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddmseg import __version__
from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card
from ddmseg.models.zoo import SUFFIX
from ddmseg_lab.dossier.figures import Measured, figures, shipped_table
from ddmseg_lab.dossier.records import NOT_RUN, JunitRun
from ddmseg_lab.page import INTERVALS, NOT_MEASURED, Target

Read = Callable[[str], Measured]
"""From the name of a figure to what was measured."""
NOTICE = "Research use, not for diagnosis."
MADE = f"Made by `ddmseg dossier` {__version__}; every figure is read from a record."


def document(title: str, parts: Sequence[str]) -> str:
    """Return a Markdown document that begins with what it may be used for."""
    return "\n\n".join([f"# {title}", f"**{NOTICE}** {MADE}", *parts]) + "\n"


def rows(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    r"""Return a table of words, in which no cell can break out of its place.

    >>> print(rows(["what", "how"], [["a", "b | c"]]))
    | what | how |
    |:--|:--|
    | a | b \| c |
    """
    lines = [f"| {' | '.join(map(cell, row))} |" for row in (header, *body)]
    lines.insert(1, f"|{'|'.join([':--'] * len(header))}|")
    return "\n".join(lines)


def cell(text: str) -> str:
    r"""Return text that stays within one cell of a Markdown table.

    >>> cell("a | b\nc")
    'a \\| b c'
    """
    return " ".join(text.split()).replace("|", "\\|")


def bullets(items: Iterable[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items)


@dataclass(frozen=True)
class Anomaly:
    """Something that is wrong, missing or easily misunderstood, as ``anomalies.toml`` has it."""

    id: str
    what: str
    affected: str
    do: str
    source: str
    figures: Sequence[str] = ()
    models: Sequence[str] = ()


def anomalies() -> list[Anomaly]:
    """Return every known anomaly."""
    return [Anomaly(**row) for row in shipped_table("anomalies")["anomaly"]]


def anomalies_document(read: Read) -> str:
    """Return the list of anomalies with what was measured of them."""
    found = anomalies()
    parts = [
        f"{len(found)} anomalies that are known. What nobody has noticed yet is not among them."
    ]
    for one in found:
        lines = (
            f"**What happens.** {one.what}",
            f"**Who is affected.** {one.affected}",
            f"**What to do.** {one.do}",
            *(_figure_words(read(name)) for name in one.figures),
            f"More: `{one.source}`",
        )
        parts += [f"## {one.id}", bullets(lines)]
    return document("Known anomalies", parts)


def _figure_words(measured: Measured) -> str:
    of = f", {measured.count}" if measured.count else ""
    figure = measured.figure
    return f"**Measured.** {figure.what} (`results/{figure.record}`): {measured.shown}{of}."


NOT_ANSWERED = "not answered"
_SOURCE = (
    "Numbers are those of CLAIM 2024 (Tejani et al. 2024, Radiology: Artificial Intelligence "
    "6:e240300); the words are ours. CLAIM is made for papers, and this is software: an answer is "
    "a place where a reader finds it, which says nothing of how good it is."
)


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
    told = _counted(states, ("answered", "answered in part", NOT_ANSWERED))
    header = ["item", "section", "it asks", "it is", "where, and what is lacking"]
    parts = [_SOURCE, f"{len(body)} items: {told}.", rows(header, body)]
    return document("Checklist of reporting", parts)


def _counted(counts: Mapping[str, int], states: Sequence[str]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in states)


def _answer(item: Mapping[str, Any], places: Places) -> tuple[str, str]:
    """Return whether an item is answered, and where or why not."""
    wanted, lacking = item.get("where", ()), item.get("lacking", "")
    there = [f"`{where}`" for where in wanted if places.holds(where)]
    gone = [f"`{where}` is not there" for where in wanted if not places.holds(where)]
    told = "; ".join([", ".join(there)] * bool(there) + [lacking] * bool(lacking) + gone)
    if not there:
        return NOT_ANSWERED, told
    return ("answered in part" if lacking or gone else "answered"), told


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
    body = []
    for one in found:
        told = [one.text, one.state]
        for proof in one.proofs:
            body.append([one.identifier, *told, proof.name, proof.result])
            told = ["", ""]  # once is enough
    summary = _counted(Counter(one.state for one in found), ("met", "not met", "open"))
    parts = [
        f"{len(found)} requirements: {summary}. *Open* means that a proof was not run, was "
        "skipped or was not measured; it is no way of having been met.",
        _source(run),
        rows(["", "requirement", "it is", "proof", "result"], body),
        "- Tests are named as pytest names them; a file stands for all tests in it.\n"
        "- Figures are judged by their mean; the interval stands beside it.",
    ]
    return document("Requirements, tests and results", parts)


def _source(run: JunitRun) -> str:
    if not run.source:
        return f"No results of tests were given (`--tests`), so every test is *{NOT_RUN}*."
    when = f", run at {run.time}" if run.time else ""
    return (
        f"Results of tests: `{run.source}`{when}, {len(run.cases)} tests, SHA-256 `{run.sha256}`."
    )


def _test_proof(test: str, run: JunitRun) -> Proof:
    counts = run.outcomes(test)
    if not counts:
        return Proof(f"`{test}`", NOT_RUN, "open")
    if counts["failed"]:
        return Proof(f"`{test}`", f"**{counts['failed']} of {counts.total()} failed**", "not met")
    told = [f"{counts[outcome]} {outcome}" for outcome in ("passed", "skipped") if counts[outcome]]
    state: State = "open" if counts["skipped"] else "met"
    return Proof(f"`{test}`", ", ".join(told), state)


def _figure_proof(bound: Mapping[str, Any], read: Read) -> Proof:
    measured = read(bound["figure"])
    figure, at_least = measured.figure, "at_least" in bound
    most = bound["at_least" if at_least else "at_most"]
    target = Target(figure.what, most, at_least, figure.unit, figure.digits)
    name = f"{figure.what}: {target.shown} (`results/{figure.record}`)"
    if measured.value is None:
        return Proof(name, f"{NOT_MEASURED} ({measured.why})", "open")
    value = float(measured.value["mean"])
    holds = value >= most if at_least else value <= most
    return Proof(name, f"{measured.shown}: {target.verdict(value)}", "met" if holds else "not met")


NOT_STATED = "Not stated."


def model_cards_document(cards: Sequence[Card], read: Read) -> str:
    """Return the cards of all models, one chapter a model."""
    names = ", ".join(f"`{card.name}`" for card in cards)
    parts = [f"{len(cards)} files of weights ship: {names}."]
    for card in cards:
        parts += _chapter(card, read)
    return document("Model cards", parts)


def _chapter(card: Card, read: Read) -> Iterator[str]:
    known = shipped_table("models").get(card.name, {})
    yield f"## {card.name}"
    yield _what_it_is(card)
    for title, key in (("Intended use", "intended"), ("Not intended", "not_intended")):
        yield f"### {title}"
        yield bullets(known.get(key) or [NOT_STATED])
    yield "### Training data and licence"
    told = {"data": card.data, "licence": card.licence}
    yield rows(["", ""], [[name, text or NOT_STATED] for name, text in told.items()])
    yield "### Measured"
    yield _measured(card, read)
    yield "### While training"
    yield _validation(card)
    yield "### Known limits"
    pointers = [one for one in anomalies() if card.name in one.models]
    told_there = [f"{one.id} in anomalies.md: {one.what}" for one in pointers]
    yield bullets([*(known.get("limits") or [NOT_STATED]), *told_there])
    yield "### Settings"
    settings = [[f"`{name}`", _shown(value)] for name, value in _flat(card.settings)]
    yield rows(["setting", "value"], settings)


def _what_it_is(card: Card) -> str:
    model, data = card.settings["model"], card.settings["data"]
    kind = "discrepancy-based diffusion" if model["diffusion"] else "a plain network"
    found = ", ".join(structure(index).name for index in card.labels[1:])
    return bullets(
        [
            f"{kind}, {model['dims']}-D, {data['spacing_mm']:g} mm, {card.trained_steps} steps of "
            "training",
            f"{len(card.labels) - 1} structures, with FreeSurfer's ids: {found}",
            f"weights `{card.name}{SUFFIX}`, SHA-256 `{card.checksum}`",
        ]
    )


def _measured(card: Card, read: Read) -> str:
    found = [read(name) for name, figure in figures().items() if figure.model == card.name]
    if not found:
        return f"{NOT_MEASURED.capitalize()}."
    body = [
        [one.figure.what, one.shown, one.count, f"`results/{one.figure.record}`"] for one in found
    ]
    words = f"{INTERVALS} Seconds: the median, and the range. A person counts once."
    return f"{rows(['figure', 'measured', 'n', 'record'], body)}\n\n{words}"


def _validation(card: Card) -> str:
    scores = [
        [f"`{name}`", f"{value:.3f}"]
        for name, value in _flat(card.scores)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not scores:
        return f"{NOT_MEASURED.capitalize()}."
    cases = card.settings["training"].get("validation_cases", "an unknown number of")
    return (
        f"{rows(['from the card of the weights', 'value'], scores)}\n\nMean of {cases} validation "
        "cases, without interval. They chose among the weights of one training, so they flatter "
        "these."
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with the sections that lead to it."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
