"""Model cards: what a model is for, what made it, what was measured, what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card
from ddmseg.models.zoo import SUFFIX
from ddmseg_lab.dossier.anomalies import anomalies
from ddmseg_lab.dossier.document import bullets, document, rows
from ddmseg_lab.dossier.figures import Measured, figures
from ddmseg_lab.dossier.shipped import shipped_table
from ddmseg_lab.page import INTERVALS, NOT_MEASURED

TITLE = "Model cards"
NOT_STATED = "Not stated."
Read = Callable[[str], Measured]


def model_cards_document(cards: Sequence[Card], read: Read) -> str:
    """Return the cards of all models, one chapter a model.

    Args:
        cards: of the weights.
        read: from the name of a figure to what was measured.
    """
    parts = [
        f"{len(cards)} files of weights ship: {', '.join(f'`{card.name}`' for card in cards)}."
    ]
    for card in cards:
        parts += _chapter(card, read)
    return document(TITLE, parts)


def _chapter(card: Card, read: Read) -> Iterator[str]:
    known = shipped_table("models").get(card.name, {})
    yield f"## {card.name}"
    yield _what_it_is(card)
    for title, key in (("Intended use", "intended"), ("Not intended", "not_intended")):
        yield f"### {title}"
        yield bullets(known.get(key) or [NOT_STATED])
    yield "### Training data and licence"
    yield rows(
        ["", ""], [["data", card.data or NOT_STATED], ["licence", card.licence or NOT_STATED]]
    )
    yield "### Measured"
    yield _measured(card, read)
    yield "### While training"
    yield _validation(card)
    yield "### Known limits"
    yield bullets([*(known.get("limits") or [NOT_STATED]), *_pointers(card)])
    yield "### Settings"
    yield rows(["setting", "value"], [[f"`{name}`", value] for name, value in _flat(card.settings)])


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
    scores = [[f"`{name}`", f"{value:.3f}"] for name, value in _flat_numbers(card.scores)]
    if not scores:
        return f"{NOT_MEASURED.capitalize()}."
    cases = card.settings["training"].get("validation_cases", "an unknown number of")
    return (
        f"{rows(['from the card of the weights', 'value'], scores)}\n\nMean of {cases} validation "
        "cases, without interval. They chose among the weights of one training, so they flatter "
        "these."
    )


def _pointers(card: Card) -> Iterator[str]:
    for one in anomalies():
        if card.name in one.models:
            yield f"{one.identifier} in anomalies.md: {one.what}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting with the sections that lead to it."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{name}", shown


def _flat_numbers(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from _flat_numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
