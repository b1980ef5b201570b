"""``ddmseg models``: what is at hand and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ddmseg.models.checkpoint import Card


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the models that ship with ddmseg, with the facts of their cards."""

    lut: Literal["freesurfer", "itk-snap", "slicer"] | None = None
    """Print the colour table of all labels for this viewer instead."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Print a paragraph per model, or a colour table.

    Raises:
        CheckpointError: when a card is damaged.
    """
    from ddmseg.models.zoo import SUFFIX, shipped_cards, weights_folder

    cards = shipped_cards()
    if arguments.lut is not None:
        from ddmseg.outputs.colour_tables import colour_table

        labels = {index for card in cards for index in card.labels}
        print(colour_table(arguments.lut, labels), end="")
        return 0
    if not cards:
        print("no model came with this installation; train one with ddmseg train")
    for card in cards:
        megabytes = (weights_folder() / f"{card.name}{SUFFIX}").stat().st_size / 2**20
        print("\n".join(describe(card, megabytes)))
    return 0


def describe(card: Card, megabytes: float) -> Iterator[str]:
    """Yield the lines on one model."""
    model, data = card.settings["model"], card.settings["data"]
    kind = "diffusion" if model["diffusion"] else "plain network"
    yield (
        f"{card.name}: {len(card.labels) - 1} structures at {data['spacing_mm']:g} mm in "
        f"{model['dims']}-D, {kind}, {megabytes:.1f} MB, {card.trained_steps} training steps"
    )
    rows = {
        "scores": ", ".join(scores(card.scores)),
        "data": card.data,
        "licence": card.licence,
        "sha256": card.checksum,
    }
    for name, told in rows.items():
        yield f"  {name:<8} {' '.join(told.split()) or 'not stated'}"


def scores(measured: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield ``name figure`` for every number, however deep it lies.

    >>> list(scores({"validation": {"sampled_dice": 0.8514, "all_empty": False}}))
    ['validation sampled dice 0.851']
    """
    for name, value in measured.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from scores(value, prefix=f"{words} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{words} {value:.3g}"
