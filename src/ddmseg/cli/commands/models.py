"""``ddmseg models``: what is at hand and what is known of it, and colours for its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ddmseg.models.checkpoint import Card

Viewer = Literal["freesurfer", "itk-snap", "slicer"]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the models that ship with ddmseg, with the facts of their cards."""

    lut: Viewer | None = None
    """Print the colour table of all labels for this viewer instead."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Print a paragraph per model, or a colour table."""
    from ddmseg.models.zoo import SUFFIX, shipped_cards, weights_folder

    cards = shipped_cards()
    if arguments.lut is not None:
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
        **({"views": card.views} if card.views else {}),
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


def colour_table(viewer: Viewer, labels: Iterable[int]) -> str:
    """Return the text of a colour table for the ids of a model, background included.

    Sources: ``FreeSurferColorLUT.txt`` (id, name, colour, 255 less opacity); ITK-SNAP's label
    descriptions (id, colour, opacity, visible, mesh, name); ``.ctbl`` of 3D Slicer (id, name,
    colour, opacity).

    >>> print(colour_table("freesurfer", [17]))
    0 Unknown 0 0 0 0
    17 Left-Hippocampus 220 216 20 0
    <BLANKLINE>
    """
    from ddmseg.imaging.labels import structure

    lines = []
    for item in (structure(index) for index in sorted({0, *labels})):
        colour, shown = " ".join(map(str, item.colour)), int(item.index > 0)
        if viewer == "itk-snap":
            name = item.name if shown else "Clear Label"
            lines.append(f'{item.index} {colour} {shown} {shown} {shown} "{name}"\n')
        else:
            opacity = 255 * shown if viewer == "slicer" else 0
            lines.append(f"{item.index} {item.name} {colour} {opacity}\n")
    return "".join(lines)
