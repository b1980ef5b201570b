"""How well one label map agrees with another: one row per structure of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ddmseg.maths.metrics import evaluate_labels

SURFACE_TOLERANCE_MM = 1.0
"""How far a surface may be off for surface Dice."""


@dataclass(frozen=True)
class Score:
    """One structure of one patient.

    Attributes:
        case: the patient, or the scan where a patient has several.
        dice: and the other metrics, as in ``metrics.StructureScore``, surface Dice within 1 mm.
    """

    case: str
    structure: str
    index: int
    dice: float
    hausdorff_mm: float
    hd95_mm: float
    volume_similarity: float
    surface_dice: float
    truth_ml: float
    prediction_ml: float


def score_case(
    case: str,
    prediction: NDArray[Any],
    truth: NDArray[Any],
    structures: Mapping[int, str],
    *,
    spacing_mm: Sequence[float],
) -> list[Score]:
    """Score one patient, a row each structure in the order given; errors as of ``metrics``.

    Args:
        structures: names by label id; ids are above 0.
    """
    rows = evaluate_labels(
        prediction,
        truth,
        list(structures),
        spacing_mm=spacing_mm,
        tolerance_mm=SURFACE_TOLERANCE_MM,
    )
    return [
        Score(
            *(case, structures[row.label], row.label, row.dice, row.hausdorff_mm, row.hd95_mm),
            *(row.volume_similarity, row.surface_dice, row.truth_ml, row.prediction_ml),
        )
        for row in rows
    ]
