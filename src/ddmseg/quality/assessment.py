"""How good a result is expected to be, and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddmseg.imaging.labels import structure
from ddmseg.imaging.postprocess import Cleaning
from ddmseg.maths.calibration import DiceCalibration
from ddmseg.maths.discrepancy import right_probability
from ddmseg.maths.expected_dice import Expectation, expectation
from ddmseg.models.checkpoint import Card
from ddmseg.networks.ensemble import Answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.limits import Limits
from ddmseg.quality.reasons import Reason, about_structures
from ddmseg.quality.segmentation import Quality, Verdict

AGREEMENT = 0.80
"""Mean Dice of the samples with the answer below which they are said to disagree."""
SLAB = 4
"""Voxels along the first axis that are handled at once where all classes count: so few that
they stay in the processor's cache."""


@dataclass(frozen=True)
class Assessment:
    """What the discrepancy says of one answer.

    ``labels`` are class indices on the model grid (``1 *grid``), ``discrepancy`` is D at each
    voxel (``1 1 *grid``) and ``expected_dice`` is calibrated, in [0, 1].
    """

    labels: Tensor
    discrepancy: Tensor
    expectation: Expectation
    expected_dice: float


def assess(
    model: DiscrepancyDiffusionSegmenter, card: Card, encoding: Encoding, answer: Answer
) -> Assessment:
    """Compare an answer with the image by the discrepancy."""
    labels = answer.probabilities.argmax(1)
    D = model.discrepancy_map(encoding, labels)
    right = right_probability(D, temperature=float(card.settings["loss"]["temperature"]))
    expected = expectation(labels[0], right[0, 0], answer.probabilities[0])
    return Assessment(labels, D, expected, calibrated(card, expected.mean_dice))


def calibrated(card: Card, dice: float, *, which: str = "expected_dice") -> float:
    """Pass a raw expected Dice through the model's monotone map, if it has one."""
    numbers = card.calibration.get(which)
    return DiceCalibration.from_dict(numbers).of(dice) if numbers else dice


def judge(
    card: Card,
    answer: Answer,
    assessment: Assessment,
    *,
    seen: Sequence[str] = (),
    cleaning: Cleaning | None = None,
    distance: float | None = None,
) -> Quality:
    """Return the verdict with its reasons.

    Args:
        seen: what else is doubtful about the scan or the labels, a sentence each.
        cleaning: what was changed in the labels, None when nobody looked.
        distance: of the features from those of training, None when not known.
    """
    rows = zip(card.labels[1:], assessment.expectation.dice[1:].tolist(), strict=True)
    by_structure = {
        structure(index).name: calibrated(card, dice, which="structure_dice")
        for index, dice in rows
        if not math.isnan(dice)
    }
    expected, limits = assessment.expected_dice, Limits.of(card)
    agreement = sample_agreement(answer)
    reasons = _reasons(card, limits, assessment, by_structure)
    if agreement is not None and agreement < AGREEMENT:
        sentence = (
            f"the samples disagree: their mean Dice with the answer is {agreement:.2f}, "
            f"below {AGREEMENT:.2f}"
        )
        reasons.append(Reason(sentence, "samples_disagree", _dice(agreement, AGREEMENT)))
    reasons += seen
    verdict: Verdict = "pass"
    if expected < limits.fails or not by_structure:
        verdict = "fail"
    elif expected < limits.passes or reasons:
        verdict = "warn"
    return Quality(
        verdict=verdict,
        expected_dice=expected,
        expected_dice_by_structure=by_structure,
        reasons=reasons,
        steps=answer.steps,
        samples=answer.samples,
        sample_agreement=agreement,
        postprocessing=_told(cleaning),
        training_distance=distance,
    )


def sample_agreement(answer: Answer) -> float | None:
    """Return the mean Dice of the samples with the answer, over the structures of either.

    In [0, 1]; None without samples or where nothing was found.
    """
    if not answer.samples or not answer.sample_labels.numel():
        return None
    whole = answer.probabilities.argmax(1)[0]

    def count(labels: Tensor) -> Tensor:
        return torch.bincount(labels.flatten(), minlength=answer.probabilities.shape[1])[1:]

    scores = []
    for sample in answer.sample_labels.long():
        total = count(whole) + count(sample)
        scores.append((2 * count(whole[whole == sample]) / total)[total > 0])
    dice = torch.cat(scores)
    return float(dice.mean()) if dice.numel() else None


def _told(cleaning: Cleaning | None) -> dict[str, Any]:
    """Return what cleaning changed and left, by name of structure, ready for JSON."""
    if cleaning is None:
        return {"applied": False}

    def named(counts: Mapping[int, int]) -> dict[str, int]:
        return {structure(index).name: n for index, n in counts.items()}

    changed = {
        "voxels_changed": cleaning.changed,
        "island_voxels_removed": named(cleaning.islands),
        "hole_voxels_filled": named(cleaning.holes),
    }
    return {
        "applied": cleaning.applied,
        **(changed if cleaning.applied else {}),
        "large_pieces": named(cleaning.pieces),
        "large_holes_ml": list(cleaning.open_holes_ml),
    }


def _reasons(
    card: Card, limits: Limits, assessment: Assessment, by_structure: dict[str, float]
) -> list[str]:
    if not by_structure:
        return [Reason("no structure was found in the scan", "nothing_found", {})]
    reasons: list[str] = []
    if (expected := assessment.expected_dice) < limits.passes:
        sentence = f"the expected Dice is {expected:.2f}, below {limits.passes:.2f}"
        reasons.append(Reason(sentence, "expected_dice_low", _dice(expected, limits.passes)))
    weak = sorted(
        (dice, name) for name, dice in by_structure.items() if dice < limits.of_structure(name)
    )
    if weak:
        told = [(f"{name} ({d:.2f})", {"name": name, "dice": round(d, 2)}) for d, name in weak]
        begin = "the image supports these structures poorly"
        reasons.append(about_structures(begin, "weak_structures", told))
    sizes = dict(zip(card.labels, assessment.expectation.size.tolist(), strict=True))
    # a scan of this kind always holds them, but this mask does not
    always = card.calibration.get("always_present", [])
    missing = [structure(index).name for index in always if not sizes.get(index)]
    if missing:
        named = [(name, {"name": name}) for name in missing]
        reasons.append(about_structures("not found", "not_found", named))
    return reasons


def _dice(dice: float, limit: float) -> dict[str, float]:
    return {"dice": round(dice, 2), "dice_limit": limit}


def uncertainty_map(answer: Answer) -> Any:
    """Return the entropy of the answer at each voxel, in units of log K (``*grid``)."""
    from ddmseg.maths.uncertainty import entropy

    p = answer.probabilities
    # Slab by slab: its terms for all classes at once would double the peak of memory.
    slabs = [entropy(p[:, :, i : i + SLAB])[0, 0] for i in range(0, p.shape[2], SLAB)]
    return torch.cat(slabs).to(torch.float32).cpu().numpy()
