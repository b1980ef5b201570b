"""The page of one evaluation: scores of every patient, volumes, tables and what went wrong.

One HTML file that needs nothing else. It holds no time of any kind, so that the same
scores give the same page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddmseg import __version__
from ddmseg.evaluation.plots import colour_text, dice_plot, interval_text, volume_plot
from ddmseg.evaluation.scores import MEAN, METRICS, per_patient
from ddmseg.maths.case_scores import Score
from ddmseg.outputs.text import render_template

if TYPE_CHECKING:
    from ddmseg.evaluation.evaluate import Evaluation

TITLES = {
    "dice": ("Dice", "", 3),
    "surface_dice": ("Surface Dice, 1 mm", "", 3),
    "hd95_mm": ("HD95", "mm", 2),
    "hausdorff_mm": ("Hausdorff", "mm", 2),
    "volume_similarity": ("Volume similarity", "", 3),
}
"""Name, unit and digits of each metric, in the order shown."""

SHOWN_VOLUMES = 9
"""Bland-Altman plots that are open; the others are folded away."""
SHOWN_PATIENTS = 15
SHOWN_NOTES = 8


@dataclass(frozen=True)
class _Patient:
    """A row of the table of patients: means over structures, the structure with the least Dice."""

    case: str
    place: int
    means: dict[str, float]
    lowest: Score | None
    missed: int


def render_page(evaluation: Evaluation) -> str:
    """Return the page as one self-contained HTML text."""
    rows = _ordered(evaluation)
    places = {case: n for n, case in enumerate(dict.fromkeys(s.case for s in evaluation.scores))}
    summary, found = evaluation.summary, evaluation.agreement

    def weight(name: str) -> float:
        """Bias for its volume."""
        total = sum(score.truth_ml + score.prediction_ml for score in rows[name]) / 2
        return abs(found[name].bias_ml) * found[name].n / total if total > 0 else -1.0

    by_bias = sorted(rows, key=weight, reverse=True)
    return render_template(
        "evaluation.html",
        evaluation=evaluation,
        title=evaluation.predictions.name or str(evaluation.predictions),
        facts={
            "Patients": str(len(evaluation.pairs)),
            "Structures": str(len(rows)),
            "Truth": evaluation.truth.name,
            "Labels": (evaluation.labels or "equal ids").replace("\\", "/").rsplit("/", 1)[-1],
            "Not evaluated": str(len(evaluation.problems) or ""),
        },
        titles=TITLES,
        mean=MEAN,
        dice=dice_plot(rows, {name: summary[name]["dice"] for name in rows}, places),
        structures=rows,
        volumes=[volume_plot(name, rows[name], found[name], places) for name in by_bias],
        patients=_patients(evaluation.scores, places),
        shown_volumes=SHOWN_VOLUMES,
        shown_patients=SHOWN_PATIENTS,
        shown_notes=SHOWN_NOTES,
        version=__version__,
        colour=colour_text,
        interval_text=interval_text,
    )


def _ordered(evaluation: Evaluation) -> dict[str, list[Score]]:
    """The scores by structure, best mean Dice first; those without one last."""
    rows: dict[str, list[Score]] = {}
    for score in evaluation.scores:
        rows.setdefault(score.structure, []).append(score)

    def merit(name: str) -> float:
        mean = evaluation.summary[name]["dice"].interval.mean
        return -math.inf if math.isnan(mean) else mean

    return {name: rows[name] for name in sorted(rows, key=merit, reverse=True)}


def _patients(scores: Sequence[Score], places: Mapping[str, int]) -> list[_Patient]:
    """One row per patient, the lowest mean Dice first; those with nothing to score last."""
    means = {metric: per_patient(scores, metric) for metric in METRICS}
    dice = means["dice"]
    rows = []
    for case in sorted(dice, key=lambda case: math.inf if math.isnan(dice[case]) else dice[case]):
        own = [score for score in scores if score.case == case]
        known = [score for score in own if math.isfinite(score.dice)]
        lowest = min(known, key=lambda score: score.dice, default=None)
        missed = sum(math.isinf(score.hausdorff_mm) for score in own)
        of_case = {metric: found[case] for metric, found in means.items()}
        rows.append(_Patient(case, places[case], of_case, lowest, missed))
    return rows
