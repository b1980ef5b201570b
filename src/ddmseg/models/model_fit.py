"""What a model was trained on, as far as the choice of a series asks; without torch."""

from __future__ import annotations

import math

from ddmseg.imaging.dicom.choice import Trained
from ddmseg.models.card import Card, read_card, thickest_mm
from ddmseg.models.zoo import model_path

LARGEST_CROP_MM = 80.0
"""A scan no wider than this on any axis is taken for a crop by a model that learned from crops."""


def trained_on(name: str) -> Trained:
    """Return what a shipped model, or one of a file of weights, was trained on.

    Raises:
        UsageError: when no model is called so.
        CheckpointError: when its card is missing or damaged.
    """
    return of_card(read_card(model_path(name).with_suffix(".json")))


def of_card(card: Card) -> Trained:
    """Return what a card says of it; where it says nothing, nothing is too thick."""
    data = card.settings.get("data", {})
    kind = data.get("kind", "label_maps")
    return Trained(
        card.name,
        largest_crop_mm=LARGEST_CROP_MM if kind == "hippocampus" else 0.0,
        thickest_mm=thickest_mm(card) or math.inf,
        # images synthesised from label maps have any contrast, most often that of T1
        t1_alone=kind != "label_maps" and not data.get("synthetic_share"),
    )
