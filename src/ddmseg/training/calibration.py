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
        sized: sizes found, expected and true of each class; of intact masks alone.
        highest: what the measures of standing out reach in each structure; of sampled 3-D masks.
        case: number of the subject.
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
        for kind, labels, p in _masks(model, encoding, sampled, number):
            trial = _trial(model, card, encoding, kind, labels, p, truth, number)
            if kind == "sampled" and labels[0].ndim == 3:
                trial = replace(trial, highest=_highest(model, card, encoding, image, labels))
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
    own = settings_from_dict(SamplingSettings, card.settings["sampling"])
    own = replace(own, **changes)
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


def _masks(
    model: DiscrepancyDiffusionSegmenter, encoding: Encoding, sampled: Answer, number: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    coarse = coarse_answer(encoding).probabilities
    yield "coarse", coarse.argmax(1), coarse
    labels = sampled.probabilities.argmax(1)
    yield "sampled", labels, sampled.probabilities
    generator = seeded(1, number)
    for _ in range(CORRUPTIONS_PER_CASE):
        yield "corrupted", corrupt(labels, model.classes, generator), sampled.probabilities


def _trial(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    encoding: Encoding,
    kind: str,
    labels: Tensor,
    p: Tensor,
    truth: Tensor,
    case: int,
) -> Trial:
    D = model.discrepancy_map(encoding, labels)
    right = right_probability(D, temperature=float(card.settings["loss"]["temperature"]))
    expected = expectation(labels[0], right[0, 0], p[0])
    wrong = labels[0] != truth
    dice, volumes = true_dice(labels[0], truth, model.classes)
    found = expected.dice[1:]
    inside = ~found.isnan()
    return Trial(
        kind=kind,
        expected=expected.mean_dice,
        true=float(dice[~dice.isnan()].mean()) if (~dice.isnan()).any() else 1.0,
        auroc=auroc(D[0, 0], wrong),
        auroc_entropy=float("nan") if kind == "corrupted" else auroc(entropy(p)[0, 0], wrong),
        by_structure={
            code: (float(found[code - 1]), float(dice[code - 1].nan_to_num(0.0)))
            for code in (inside.nonzero().flatten() + 1).tolist()
        },
        sized=None if kind == "corrupted" else SizedCase.of(expected, volumes),
        case=case,
    )


def _highest(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    encoding: Encoding,
    image: Tensor,
    labels: Tensor,
) -> dict[str, dict[str, float]]:
    D = model.discrepancy_map(encoding, labels)[0, 0].numpy()
    ids = np.array(card.labels)[labels[0].numpy()]
    edge_mm = float(card.settings["data"]["spacing_mm"]) or 1.0  # 0: crops as they are, near 1 mm
    return highest(measures(D, image[0].numpy(), ids, (edge_mm,) * 3), ids)


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
    card = replace(card, calibration=calibration)
    return with_usual(card, [t for t in trials if t.kind == "sampled"])


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
    """Calibrate trained weights on the source's validation examples, in place.

    Args:
        path: of the weights; the card beside them is rewritten.
        source: what they were trained on.
        cases: validation examples to use at most.
    """
    model, card = load_weights(path)
    if model.denoiser is None:
        return card
    tried = try_masks(model, card, source.validation_examples(cases))
    return save_weights(model, calibrate(card, tried, source.always_present), path)
