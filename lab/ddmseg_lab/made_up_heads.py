"""Whole heads made up from label maps, intact or degraded: every volume in them is known.

Scans drawn by hand are degraded by the same law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.label_maps import list_cases, read_label_map
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.synthesis import artefacts
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser
from ddmseg.imaging.volume import Volume
from ddmseg.models.card import Card
from ddmseg.randomness import seeded
from ddmseg_lab.study import ModelOptions

SEED = 991
HEAD_MM = (160, 192, 160)
ROUNDS = {"validation": 16, "train": 8}
"""Heads made of each label map of a split; the model was trained on images of the latter."""
INTACT, DEGRADED = "intact", "degraded"
ORDER = (INTACT, "thick", INTACT, "noise", INTACT, "motion", INTACT, "low")
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
    make: Callable[[], tuple[Tensor, Tensor]]
    """Returns image (``1 *grid``) and class indices (``*grid``)."""
    sampled: bool = False
    """Whether samples are asked, too: of half the heads of each kind, for they take longest."""


def made_up_heads(options: ModelOptions, card: Card, split: str) -> Iterator[Head]:
    """Yield the heads of a split, kinds in turn."""
    cases = split_cases(list_cases(options.data), "label_maps").require(split)
    for number in range(ROUNDS[split] * len(cases))[: options.cases]:
        turn, place = divmod(number, len(cases))
        case, kind = cases[place], ORDER[turn % len(ORDER)]
        make = partial(made_up, case, kind, card, seeded(SEED, number))
        yield Head(number, case.identifier, kind, make, (turn // 2 + place) % 2 == 0)


def made_up(case: Case, kind: str, card: Card, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return a head of a label map: image (``1 *grid``) and class indices (``*grid``)."""
    assert case.labels is not None  # as all of these have
    spacing = float(card.settings["data"]["spacing_mm"])
    make = LabelMapSynthesiser(
        [read_label_map(case.labels)],
        KINDS[kind],
        spacing_mm=spacing,
        patch_shape=tuple(round(mm / spacing) for mm in HEAD_MM),
        labels=card.labels,
    )
    return make(generator)


def degraded(volume: Volume, kind: str, generator: Generator) -> Volume:
    """Return a scan as bad as a made-up head of this kind is, on its own grid."""
    if kind == INTACT:
        return volume
    image = normalise(torch.from_numpy(volume.data.astype(np.float32)))
    image = artefacts.degrade(image, kind, generator, spacing_mm=volume.spacing_mm)
    return replace(volume, data=image.numpy())
