"""Fit the expected Dice in the card of shipped weights on whole made-up heads.

    python -m ddmseg_lab.limits.expected_dice --model anatomy --data DATA

A training calibrates on patches like its own. In a whole head every structure is there, and a mask
that is all wrong gets a lower Dice than in a patch. So both maps of the card are fitted on heads
of the validation label maps, intact and degraded: the coarse head's mask and four corruptions of
it. Then come ``make manifest``, ``python -m ddmseg_lab.limits.usual_dice`` and the former again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ddmseg.inference.scan_encoding import encode_image
from ddmseg.maths.calibration import fit_calibration
from ddmseg.maths.discrepancy import right_probability
from ddmseg.maths.expected_dice import expectation
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg.training.calibration import true_dice
from ddmseg.training.corruption import corrupt
from ddmseg_lab.made_up_heads import Head, made_up_heads
from ddmseg_lab.study import ModelOptions, run_command, say

CORRUPTIONS = 4


@dataclass(frozen=True)
class Judged:
    """One mask: what was expected of it and what is true, whole and of each structure."""

    expected: float
    true: float
    structures: list[tuple[float, float]]


@torch.inference_mode()
def judged_masks(model: DiscrepancyDiffusionSegmenter, card: Card, head: Head) -> list[Judged]:
    """Return the masks of one head, the intact one first.

    What the head holds outside the brain's box counts as missed.
    """
    image, truth = head.make()
    encoding, box, _ = encode_image(model, image[None])
    p = encoding.coarse_probabilities
    found = p.argmax(1)
    generator = seeded(1, head.number)
    masks = [found, *(corrupt(found, model.classes, generator) for _ in range(CORRUPTIONS))]
    judged = []
    for mask in masks:
        D = model.discrepancy_map(encoding, mask)
        right = right_probability(D, temperature=float(card.settings["loss"]["temperature"]))
        expected = expectation(mask[0], right[0, 0], p[0])
        placed = torch.zeros_like(truth)
        placed[box] = mask[0]
        dice, _ = true_dice(placed, truth, model.classes)
        known = expected.dice[1:].isfinite() & dice.isfinite()
        pairs = zip(expected.dice[1:][known].tolist(), dice[known].tolist(), strict=True)
        judged.append(Judged(expected.mean_dice, float(dice.nanmean()), list(pairs)))
    return judged


def run(options: ModelOptions) -> None:
    """Judge the masks of all heads, fit both maps, and write the card."""
    path = model_path(options.model)
    model, card = load_weights(path)
    judged: list[Judged] = []
    for head in made_up_heads(options, card, "validation"):
        judged += judged_masks(model, card, head)
        say(f"{head.subject}  {head.kind:<7}  {judged[-CORRUPTIONS - 1].true:.3f}")
    whole = fit_calibration([one.expected for one in judged], [one.true for one in judged])
    single = [pair for one in judged for pair in one.structures]
    each = fit_calibration([expected for expected, _ in single], [true for _, true in single])
    maps: dict[str, Any] = {"expected_dice": whole.as_dict(), "structure_dice": each.as_dict()}
    maps["masks"] = len(judged)
    save_weights(model, replace(card, calibration={**card.calibration, **maps}), path)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
