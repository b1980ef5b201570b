"""Write into the card of shipped weights what intact scans get: expected Dice, discrepancy, bias.

    python -m ddmseg_lab.limits.usual_dice --model anatomy

Limits of the verdict follow from it (``ddmseg.quality.limits``), and what of a result stands
out (``ddmseg.quality.standing_out``). ``anatomy`` learned from
made-up images, so real ones decide: the development scans of MALC2012, by the coarse head. Their
volumes drawn by hand say by how much those found are too large or too small
(``ddmseg.quality.volumes``).
``hippocampus`` takes its validation subjects. No test subject is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ddmseg.datasets.case import Case
from ddmseg.datasets.sources import make_source
from ddmseg.imaging.labels import count_voxels
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.quality.limits import Limits, usual
from ddmseg.quality.quantities import pairs, structures, totals
from ddmseg.quality.standing_out import highest, measures, usual_limits
from ddmseg.training.calibration import try_masks, with_usual
from ddmseg_lab.scans import HEADS, Ids
from ddmseg_lab.study import ModelOptions, run_command, say


def on_real_heads(arguments: ModelOptions, card: Card) -> Card:
    """Return the card with what real heads get."""
    segmenter = Segmenter.load(arguments.model, device="cpu")
    cases = HEADS.cases("validation", arguments.data, arguments.cases)
    found = [segmenter(case.images[0], mode="fast") for case in cases]
    told = usual(
        [one.quality.expected_dice for one in found],
        [one.quality.expected_dice_by_structure for one in found],
    )
    limits = usual_limits(
        highest(measures(one.discrepancy, one.scan.data, ids, one.scan.spacing_mm), ids)
        for one in found
        for ids in [one.labels.data]
    )
    found_bias = drawn_bias(cases, [one.labels.data for one in found], card.labels)
    measured = {"usual": told, "standing_out": limits, "drawn_bias": found_bias}
    return replace(card, calibration={**card.calibration, **measured})


def drawn_bias(
    cases: Sequence[Case], found: Sequence[Ids], labels: Sequence[int]
) -> dict[str, float]:
    """Return the mean log ratio of drawn to found volume of what was drawn whole, by name.

    Two scans of one person count as one.
    """
    named = [*structures(labels), *pairs(labels), *totals(labels)]
    drawn = set(HEADS.structures)
    ratios: dict[str, dict[str, list[float]]] = {}
    for case, one in zip(cases, found, strict=True):
        true, ours = count_voxels(HEADS.truth(case)), count_voxels(one)
        for quantity in named:
            sums = [sum(of.get(index, 0) for index in quantity.ids) for of in (true, ours)]
            if drawn.issuperset(quantity.ids) and min(sums):
                of_person = ratios.setdefault(quantity.name, {}).setdefault(case.group, [])
                of_person.append(math.log(sums[0] / sums[1]))
    return {
        name: round(float(np.mean([np.mean(own) for own in persons.values()])), 3)
        for name, persons in ratios.items()
    }


def run(arguments: ModelOptions) -> None:
    """Measure, and write the card."""
    path = model_path(arguments.model)
    model, card = load_weights(path)
    settings = settings_from_dict(Settings, card.settings)
    if settings.data.kind == "label_maps":
        card = on_real_heads(arguments, card)
    else:
        source = make_source(settings.data, arguments.data)
        examples = source.validation_examples(arguments.cases or 20)
        trials = try_masks(model, card, examples)
        card = with_usual(card, [trial for trial in trials if trial.kind == "sampled"])
    save_weights(model, card, path)
    told, limits = card.calibration["usual"], Limits.of(card)
    say(
        f"{card.name}: usually {told['expected_dice']:.3f} ({told['scans']} scans); passes from "
        f"{limits.passes:.2f}, fails below {limits.fails:.2f}"
    )


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
