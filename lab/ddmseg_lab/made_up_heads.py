"""Whole heads made up from label maps, intact or degraded: every volume in them is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from ddmseg.datasets.case import Case
from ddmseg.datasets.label_maps import list_cases, read_label_map
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.synthesis import artefacts
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser
from ddmseg.models.card import Card
from ddmseg.randomness import seeded
from ddmseg_lab.study import ModelOptions

SEED = 991
HEAD_MM = (160, 192, 160)
ROUNDS = {"validation": 16, "train": 8}
"""Heads made of each label map of a split; the model was trained on images of the latter."""
ORDER = ("intact", "thick", "intact", "noise", "intact", "motion", "intact", "low")
INTACT = "intact"
_PLAIN = SynthesisSettings(
    contrast_weights=(0.7, 0.1, 0.1, 0.1),
    brain_centred_probability=1.0,
    translation_mm=0.0,
    thick_slice_probability=0.0,
    motion_probability=0.0,
    ghost_probability=0.0,
    cut_probability=0.0,
    noise_std=0.03,
    blur_mm=(0.3, 0.8),
    lesion_probability=0.0,
)
KINDS = {
    INTACT: _PLAIN,
    "thick": replace(_PLAIN, thick_slice_probability=1.0),
    "noise": replace(_PLAIN, noise_std=artefacts.STRONG_NOISE),
    "motion": replace(_PLAIN, motion_probability=1.0),
    "low": replace(_PLAIN, blur_mm=artefacts.STRONG_BLUR_MM),
}


@dataclass(frozen=True)
class Head:
    """A made-up head that is still to be made."""

    number: int
    subject: str
    kind: str
    make: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    """Returns image (``1 *grid``) and class indices (``*grid``)."""
    sampled: bool = False
    """Whether samples are asked, too: of half the heads of each kind, for they take longest."""


def made_up_heads(options: ModelOptions, card: Card, split: str) -> Iterator[Head]:
    """Yield the heads of a split, kinds in turn."""
    spacing = float(card.settings["data"]["spacing_mm"])
    shape = tuple(round(mm / spacing) for mm in HEAD_MM)
    cases = split_cases(list_cases(options.data), "label_maps").require(split)
    for number in range(ROUNDS[split] * len(cases))[: options.cases]:
        turn, place = divmod(number, len(cases))
        case, kind = cases[place], ORDER[turn % len(ORDER)]

        def make(
            case: Case = case, kind: str = kind, number: int = number
        ) -> tuple[torch.Tensor, torch.Tensor]:
            assert case.labels is not None  # as all of these have
            maps, settings = [read_label_map(case.labels)], KINDS[kind]
            synthesise = LabelMapSynthesiser(
                maps, settings, spacing_mm=spacing, patch_shape=shape, labels=card.labels
            )
            return synthesise(seeded(SEED, number))

        yield Head(number, case.identifier, kind, make, (turn // 2 + place) % 2 == 0)
