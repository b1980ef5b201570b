"""Give weights the views that their card names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ddmseg.errors import CheckpointError, UsageError
from ddmseg.imaging.labels import on_other_side
from ddmseg.models.card import Card, card_of
from ddmseg.models.settings import SamplingSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.views import Mirrored, View, Views

Load = Callable[[Path], tuple[DiscrepancyDiffusionSegmenter, Card]]
TWICE = 2.0


def views_of(
    model: DiscrepancyDiffusionSegmenter, card: Card, load: Load
) -> Views | Mirrored | None:
    """Return the looks that a card asks for; None for f^I's own straight one alone.

    Args:
        load: reads weights of our model, without views.

    Raises:
        CheckpointError: when the wide weights are missing, others than those that the card was
            made with, or do not fit; or when a class has no other side.
    """
    own = settings_from_dict(SamplingSettings, card.settings["sampling"])
    encoder = model.image_encoder
    if not (own.mirrored or own.wide):
        return None
    exchange = _other_sides(card) if own.mirrored else ()
    if not isinstance(encoder, BlockEncoder):
        return Mirrored(encoder, exchange)
    wide = View.of(_wide_encoder(own.wide, card, load), exchange) if own.wide else None
    return Views(View.of(encoder, exchange), wide)


def checksum_of_wide(name: str) -> str:
    """Return the checksum of the weights that ``sampling.wide`` names; empty for none."""
    return card_of(name).checksum if name else ""


def _wide_encoder(name: str, card: Card, load: Load) -> BlockEncoder:
    try:
        model, theirs = load(model_path(name))
    except UsageError as error:
        raise CheckpointError(f"{card.name}: sampling.wide: {error}") from error
    if theirs.checksum != card.wide:
        raise CheckpointError(
            f"{card.name}: it was made to look through {name} {card.wide[:12]} as well, and "
            f"here is {theirs.checksum[:12]}; install ddmseg again, or train anew"
        )
    encoder = model.image_encoder
    spacings = [float(one.settings["data"]["spacing_mm"]) for one in (theirs, card)]
    if (
        not isinstance(encoder, BlockEncoder)
        or theirs.labels != card.labels
        or spacings[0] != TWICE * spacings[1]
    ):
        raise CheckpointError(
            f"{card.name}: sampling.wide: {name} has {len(theirs.labels)} classes at "
            f"{spacings[0]:g} mm; name weights on blocks with the same {len(card.labels)} classes "
            f"at {TWICE * spacings[1]:g} mm"
        )
    fold_statistics(encoder)
    return encoder


def _other_sides(card: Card) -> Sequence[int]:
    """Return the class on the other side, for each."""
    try:
        return on_other_side(card.labels)
    except UsageError as error:
        raise CheckpointError(
            f"{card.name}: sampling.mirrored: a class has no other side among its labels ({error})"
        ) from error
