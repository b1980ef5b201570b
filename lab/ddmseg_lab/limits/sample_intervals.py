"""Write into the card of ``hippocampus`` how far samples say that a volume may be off.

    python -m ddmseg_lab.limits.sample_intervals --data DATA

For each structure a bias, a factor and a usual spread (``ddmseg.quality.sampled_volumes``), by
split conformal prediction on the validation crops, intact and degraded, as
``ddmseg_lab.studies.crop_intervals`` asks them; no test crop is looked at. A card whose samples
lose to the doubt by the discrepancy there gets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.zoo import model_path
from ddmseg_lab.scans import CROPS
from ddmseg_lab.studies.crop_intervals import RIVALS, VALIDATION, measure, winner
from ddmseg_lab.studies.volume_intervals import answers_of, fits
from ddmseg_lab.study import ModelOptions, run_command, say

SAMPLES = "samples"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelOptions):
    """Options of this command."""

    model: str = "hippocampus"
    """Name of a shipped model, or a .safetensors file with its card."""


def with_sample_intervals(card: Card, rows: Sequence[dict[str, str]]) -> Card:
    """Return the card with what was measured, without it where samples do not win.

    Args:
        rows: what the rivals said of the validation crops.
    """
    calibration: dict[str, Any] = {**card.calibration}
    calibration.pop("sample_intervals", None)
    answers = answers_of(rows)
    if winner(answers)[0] == SAMPLES:
        calibration["sample_intervals"] = {
            structure(int(index)).name: [round(x, 5) for x in (fit.bias, fit.factor, fit.base)]
            for index, fit in fits(SAMPLES, answers[SAMPLES]).items()
        }
    return replace(card, calibration=calibration)


def run(arguments: Arguments) -> None:
    """Ask the rivals about each validation crop, and write the card."""
    path = model_path(arguments.model)
    model, card = load_weights(path)
    rows: list[dict[str, str]] = []
    for number, case in enumerate(CROPS.cases(VALIDATION, arguments.data)):
        found = measure(model, card, VALIDATION, number, case, RIVALS)
        rows += [{name: str(value) for name, value in row.items()} for row in found]
        say(case.identifier)
    card = with_sample_intervals(card, rows)
    save_weights(model, card, path)
    scores = [f"{rival} {score:.3f}" for rival, score in winner(answers_of(rows))[1].items()]
    told = card.calibration.get("sample_intervals", "samples do not win")
    say(f"{', '.join(scores)}; {told}")


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
