"""Calibrate trained weights in place: honest expectations."""

from __future__ import annotations

from pathlib import Path

from ddmseg.datasets.source import Source
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.training.calibration import calibrate, try_masks


def calibrate_weights(path: Path, source: Source, *, cases: int = 60) -> Card:
    """Calibrate trained weights on the source's validation examples, in place.

    Args:
        path: of the weights; the card beside them is rewritten.
        source: what they were trained on.
        cases: validation examples to use at most.
    """
    model, card = load_weights(path)
    if model.denoiser is None:
        return card
    tried = try_masks(model, card, source.validation_examples(cases))
    return save_weights(model, calibrate(card, tried, source.always_present), path)
