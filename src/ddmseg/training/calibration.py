"""Make the expected Dice honest: fit the maps of the card on validation subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddmseg.datasets.source import Source
from ddmseg.imaging.labels import structure
from ddmseg.maths.calibration import fit_calibration
from ddmseg.maths.discrepancy import right_probability
from ddmseg.maths.double import double
from ddmseg.maths.expected_dice import expectation
from ddmseg.maths.schedule import make_schedule
from ddmseg.maths.uncertainty import auroc, entropy
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import SamplingSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.networks.ensemble import Answer, coarse_answer, sampled_answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import calibrated
from ddmseg.quality.limits import usual
from ddmseg.quality.standing_out import highest, measures, usual_limits
from ddmseg.randomness import seeded
from ddmseg.training.corruption import corrupt
from ddmseg.training.volume_calibration import SizedCase, volume_bounds

CORRUPTIONS_PER_CASE = 3


@dataclass(frozen=True)
class Trial:
    """One mask of one validation subject: what was expected and what is true.

    Attributes:
        kind: ``coarse``, ``sampled`` or ``corrupted``.
        expected: raw expected Dice, mean over structures.
        true: Dice against the truth, mean over the structures of mask or truth.
        auroc: of the discrepancy for wrong voxels; NaN when none is wrong.
        auroc_entropy: the same of the softmax entropy; NaN for corrupted masks.
        by_structure: raw expected and true Dice of each class in the mask.
        sized: of intact masks alone.
        case: number of the subject.
        highest: what the measures of standing out reach in each structure; of sampled 3-D masks.
    """

    kind: str
    expected: float
    true: float
    auroc: float
    auroc_entropy: float
    by_structure: dict[int, tuple[float, float]]
    sized: SizedCase | None
    case: int
    highest: dict[str, dict[str, float]] = field(default_factory=dict)


@torch.inference_mode()
def try_masks(
    model: DiscrepancyDiffusionSegmenter, card: Card, examples: Sequence[tuple[Tensor, Tensor]]
) -> list[Trial]:
    """Compare expected with true Dice on intact and corrupted masks.

    Args:
        card: of its weights; gives schedule and sampling.
        examples: normalised images (``c *grid``) with class indices (``*grid``).
    """
    trials = []
    for number, (image, truth) in enumerate(examples):
        encoding = model.encode(image[None])
        sampled = draw(model, card, encoding, seed=number)
        for kind, labels, p in masks_to_judge(model, encoding, sampled, number):
            D = model.discrepancy_map(encoding, labels)
            trial = _trial(card, kind, D, labels[0], p, truth, number)
            if kind == "sampled" and labels[0].ndim == 3:
                trial = replace(trial, highest=_highest(card, D[0, 0], image, labels[0]))
            trials.append(trial)
    return trials


def draw(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    encoding: Encoding,
    *,
    seed: int,
    **changes: Any,
) -> Answer:
    """Sample one answer with the card's settings, some of them changed."""
    own = replace(settings_from_dict(SamplingSettings, card.settings["sampling"]), **changes)
    loss = card.settings["loss"]
    sampler = MaskSampler(model, encoding, make_schedule(loss["schedule"], loss["schedule_shift"]))
    return sampled_answer(
        sampler,
        algorithm=own.sampler,
        steps=own.steps,
        samples=own.samples,
        temperature=own.temperature,
        coarse_share=own.coarse_share,
        generator=seeded(seed, 0),
    )


def masks_to_judge(
    model: DiscrepancyDiffusionSegmenter, encoding: Encoding, sampled: Answer, number: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield kind, class indices and probabilities of the coarse, the sampled and corrupted masks.

    The number of the subject fixes the corruptions, which are of the sampled mask.
    """
    coarse = coarse_answer(encoding).probabilities
    yield "coarse", coarse.argmax(1), coarse
    labels = sampled.probabilities.argmax(1)
    yield "sampled", labels, sampled.probabilities
    generator = seeded(1, number)
    for _ in range(CORRUPTIONS_PER_CASE):
        yield "corrupted", corrupt(labels, model.classes, generator), sampled.probabilities


def _trial(
    card: Card, kind: str, D: Tensor, labels: Tensor, p: Tensor, truth: Tensor, case: int
) -> Trial:
    right = right_probability(D, temperature=float(card.settings["loss"]["temperature"]))
    expected = expectation(labels, right[0, 0], p[0])
    wrong, intact = labels != truth, kind != "corrupted"
    dice, volumes = true_dice(labels, truth, p.shape[1])
    found = expected.dice[1:]
    return Trial(
        kind=kind,
        expected=expected.mean_dice,
        true=float(dice[~dice.isnan()].mean()) if (~dice.isnan()).any() else 1.0,
        auroc=auroc(D[0, 0], wrong),
        auroc_entropy=auroc(entropy(p)[0, 0], wrong) if intact else float("nan"),
        by_structure={
            code + 1: (float(found[code]), float(dice[code].nan_to_num(0.0)))
            for code in (~found.isnan()).nonzero().flatten().tolist()
        },
        sized=SizedCase.of(expected, volumes) if intact else None,
        case=case,
    )


def _highest(card: Card, D: Tensor, image: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    ids = np.array(card.labels)[labels.numpy()]
    edge_mm = float(card.settings["data"]["spacing_mm"]) or 1.0  # 0: crops as they are, near 1 mm
    return highest(measures(D.numpy(), image[0].numpy(), ids, (edge_mm,) * 3), ids)


def true_dice(labels: Tensor, truth: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return Dice of each foreground class (NaN where neither has it) and true sizes."""

    def count(x: Tensor) -> Tensor:
        return double(torch.bincount(x.flatten(), minlength=classes)[1:])

    sizes = count(truth)
    total = sizes + count(labels)
    dice = 2 * count(truth[labels == truth]) / total
    return dice, sizes


def calibrate(card: Card, trials: Sequence[Trial], always_present: Sequence[int]) -> Card:
    """Return the card with its maps fitted on the trials.

    Args:
        always_present: FreeSurfer ids that every scan of this kind holds.
    """
    whole = fit_calibration([t.expected for t in trials], [t.true for t in trials])
    pairs = [pair for t in trials for pair in t.by_structure.values()]
    single = fit_calibration([e for e, _ in pairs], [t for _, t in pairs])
    calibration = {
        "expected_dice": whole.as_dict(),
        "structure_dice": single.as_dict(),
        **volume_bounds(card, [t.sized for t in trials if t.kind == "sampled" and t.sized]),
        "always_present": [int(index) for index in always_present],
        "masks": len(trials),
    }
    sampled = [trial for trial in trials if trial.kind == "sampled"]
    return with_usual(replace(card, calibration=calibration), sampled)


def with_usual(card: Card, trials: Sequence[Trial]) -> Card:
    """Return a calibrated card that says what these intact subjects get: Dice, and measures."""
    if not trials:
        return card
    whole = [calibrated(card, trial.expected) for trial in trials]
    single = [
        {
            structure(card.labels[code]).name: calibrated(card, dice, which="structure_dice")
            for code, (dice, _) in trial.by_structure.items()
        }
        for trial in trials
    ]
    told: dict[str, Any] = {**card.calibration, "usual": usual(whole, single)}
    if limits := usual_limits(trial.highest for trial in trials):
        told["standing_out"] = limits
    return replace(card, calibration=told)


def calibrate_weights(path: Path, source: Source, *, cases: int = 60) -> Card:
    """Calibrate trained weights on the source's validation examples; rewrite the card in place.

    Args:
        cases: validation examples to use at most.
    """
    model, card = load_weights(path)
    if model.denoiser is None:
        return card
    tried = try_masks(model, card, source.validation_examples(cases))
    return save_weights(model, calibrate(card, tried, source.always_present), path)
