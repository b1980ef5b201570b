"""Write into the card of shipped weights which expected Dice and discrepancy intact scans get.

    python -m ddmseg_lab.limits.usual_dice --model anatomy

Limits of the verdict follow from it (``ddmseg.quality.limits``), and what of a result stands
out (``ddmseg.quality.standing_out``). ``anatomy`` learned from
made-up images, so real ones decide: the development scans of MALC2012, by the coarse head.
``hippocampus`` takes its validation subjects. No test subject is looked at.
"""

from __future__ import annotations

from dataclasses import replace

from ddmseg.datasets.sources import make_source
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.quality.limits import Limits, usual
from ddmseg.quality.standing_out import highest, measures, usual_limits
from ddmseg.training.calibration import try_masks, with_usual
from ddmseg_lab.scans import HEADS
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
    return replace(card, calibration={**card.calibration, "usual": told, "standing_out": limits})


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
