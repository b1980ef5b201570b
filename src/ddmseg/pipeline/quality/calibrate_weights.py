"""Calibrate trained weights in place: honest expectations, and what less sampling costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline.budget.costs import Draw
from ddmseg.pipeline.budget.given_up import KEY, NOTHING
from ddmseg.pipeline.budget.plan import wish_of
from ddmseg.pipeline.checkpoint import Card, load_weights, save_weights
from ddmseg.pipeline.ensemble import coarse_answer
from ddmseg.pipeline.options import SegmentOptions
from ddmseg.pipeline.quality.calibrate import calibrate, draw, true_dice, try_masks
from ddmseg.pipeline.training.batches import Source

DRAWN_CASES = 20
"""Validation examples that every set of samples is drawn for, at most: it takes a while."""


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
    examples = source.validation_examples(cases)
    card = calibrate(card, try_masks(model, card, examples), source.always_present)
    told = {**card.calibration, KEY: dice_by_draw(model, card, examples[:DRAWN_CASES])}
    return save_weights(model, replace(card, calibration=told), path)


@torch.inference_mode()
def dice_by_draw(
    model: DiscrepancyDiffusionSegmenter, card: Card, examples: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Return the mean Dice with no samples and with each set that a budget may choose.

    Args:
        model: in eval mode.
        card: of its weights; its own steps and samples are the largest set.
        examples: normalised images (``c *grid``) with class indices (``*grid``).
    """
    own = card.settings["sampling"]
    draws = wish_of(SegmentOptions(), own=Draw(own["steps"], own["samples"])).first
    found: dict[str, list[float]] = {name: [] for name in (NOTHING, *map(str, draws))}
    for number, (image, truth) in enumerate(examples):
        encoding = model.encode(image[None])
        answers = {NOTHING: coarse_answer(encoding)}
        for one in draws:
            how = {"steps": one.steps, "samples": one.samples}
            answers[str(one)] = draw(model, card, encoding, seed=number, **how)
        for name, answer in answers.items():
            labels = answer.probabilities.argmax(1)[0]
            found[name].append(float(true_dice(labels, truth, model.classes)[0].nanmean()))
    return {name: round(float(np.nanmean(values)), 5) for name, values in found.items()}
