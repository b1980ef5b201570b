"""What the discrepancy says of intact and corrupted masks of one subject, and what is true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.maths.discrepancy import right_probability
from ddmseg.maths.expected_dice import Expectation, expectation
from ddmseg.maths.uncertainty import auroc, entropy
from ddmseg.models.checkpoint import Card
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.quantities import structures
from ddmseg.quality.volumes import Measured
from ddmseg.training.calibration import draw, masks_to_judge
from ddmseg_lab.rows import Row
from ddmseg_lab.statistics import expected_calibration_error


@dataclass(frozen=True)
class Subject:
    """A normalised image (``c *grid``) on the model's grid, its classes, and what counts."""

    image: Tensor
    truth: Tensor
    known: Tensor
    """Voxels at which the truth is known."""
    evaluated: tuple[int, ...] | None = None
    """Foreground classes to score, None for all; voxels that a mask gives to another foreground
    class are not judged."""

    @classmethod
    def whole(cls, image: Tensor, truth: Tensor) -> Subject:
        """Return a subject whose truth is known at every voxel and for every class."""
        return cls(image, truth, torch.ones_like(truth, dtype=torch.bool))


SCORES = ("kind", "expected", "true", "auroc", "auroc_entropy", "ece", "ece_softmax", "covered")
"""Of one mask, coarse, sampled or corrupted.

``expected`` is the Dice expected from the discrepancy, not calibrated, ``true`` that against the
truth, both means over the structures of mask or truth. ``auroc`` is of the discrepancy for wrong
voxels, NaN when none is wrong; ``auroc_entropy`` of the softmax entropy of what was corrupted or
not. ``ece`` is the calibration error of exp(-D / sigma_D^2) as the chance to be right,
``ece_softmax`` that of the largest probability. ``covered`` is the share of the structures whose
true volume lies in its interval, NaN where not all of the truth is known. The last two are NaN for
corrupted masks.
"""


@torch.inference_mode()
def measure_masks(
    model: DiscrepancyDiffusionSegmenter, card: Card, subject: Subject, *, number: int
) -> list[Row]:
    """Score the coarse, the sampled and the corrupted masks of one subject.

    They are those that the calibration is fitted on, drawn from the same seeds; here each voxel's
    confidence is scored too, and voxels can be left out where the truth is not known. The number
    of the subject fixes noise and corruptions.
    """
    encoding = model.encode(subject.image[None])
    temperature = float(card.settings["loss"]["temperature"])
    sampled = draw(model, card, encoding, seed=number)
    scores = []
    for kind, labels, p in masks_to_judge(model, encoding, sampled, number):
        D = model.discrepancy_map(encoding, labels)
        right = right_probability(D, temperature=temperature)[0, 0]
        scores.append(score_mask(card, kind, labels[0], p[0], D[0, 0], right, subject))
    return scores


def score_mask(
    card: Card, kind: str, labels: Tensor, p: Tensor, D: Tensor, right: Tensor, subject: Subject
) -> Row:
    """Return the scores of one mask (``*grid``) on the voxels that can be judged.

    The largest of the probabilities ``p`` (``k *grid``) is the confidence of intact masks only.
    """
    classes = p.shape[0]
    scored = torch.tensor(subject.evaluated or range(1, classes))
    kept = torch.cat([torch.zeros(1, dtype=torch.int64), scored])
    counts = subject.known & torch.isin(labels, kept)
    labels, p, D, right = labels[counts], p[:, counts], D[counts], right[counts]
    truth = subject.truth[counts]
    wrong = labels != truth
    intact = kind != "corrupted"
    judged = intact and subject.evaluated is None
    expected = expectation(labels, right, p)
    return {
        "kind": kind,
        "expected": Expectation(*(of[kept] for of in vars(expected).values())).mean_dice,
        "true": _mean_dice(labels, truth, scored, classes),
        "auroc": auroc(D, wrong),
        "auroc_entropy": auroc(entropy(p[None])[0, 0], wrong),
        "ece": _ece(right, ~wrong),
        "ece_softmax": _ece(p.amax(0), ~wrong) if intact else math.nan,
        "covered": _covered(card, expected, truth) if judged else math.nan,
    }


def _ece(confidence: Tensor, correct: Tensor) -> float:
    return expected_calibration_error(confidence.clamp(0, 1), correct)


def _covered(card: Card, expected: Expectation, truth: Tensor) -> float:
    """Return the share of the structures of mask or truth whose volume the interval holds."""
    sizes = torch.bincount(truth, minlength=len(card.labels))
    found = dict(zip(card.labels, expected.size.tolist(), strict=True))
    measured = Measured(card, found, expected, expected_voxel_ml=1.0)
    inside = []
    for one, true in zip(structures(card.labels), sizes[1:].tolist(), strict=True):
        row = measured.row(one)
        if row.volume_ml or true:
            inside.append(row.interval_low_ml <= true <= row.interval_high_ml)
    return sum(inside) / len(inside) if inside else math.nan


def _mean_dice(labels: Tensor, truth: Tensor, scored: Tensor, classes: int) -> float:
    """Mean over the structures that either has; 1 when neither has any."""

    def count(x: Tensor) -> Tensor:
        return torch.bincount(x, minlength=classes)[scored].double()

    dice = 2 * count(truth[labels == truth]) / (count(truth) + count(labels))
    found = dice[~dice.isnan()]
    return float(found.mean()) if len(found) else 1.0
