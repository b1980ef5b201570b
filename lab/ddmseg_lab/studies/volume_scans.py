"""Scans whose volumes are known: heads made up from label maps, and MALC2012, drawn by hand.

Both come intact or degraded by the same law (``made_up_heads.KINDS``): thick slices of 3 to 6 mm,
noise, motion or low resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from ddmseg.datasets.label_maps import list_cases, read_label_map
from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.labels import count_voxels
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.synthesis import artefacts
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser
from ddmseg.imaging.volume import Volume
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.models.checkpoint import Card
from ddmseg.randomness import seeded
from ddmseg_lab.made_up_heads import HEAD_MM, INTACT, KINDS
from ddmseg_lab.scans import HEADS

MADE_UP, DEVELOPMENT, TEST = "made-up", "development", "test"
MALC_SPLITS = {DEVELOPMENT: "validation", TEST: "test"}
DEGRADED = tuple(kind for kind in KINDS if kind != INTACT)
SEED = 993
ROUNDS = 6
"""Pairs of made-up heads, intact and degraded, of each label map. One gives the bounds of a
structure on some 40 heads, of which a 95% interval has to hold all: the worst one decides."""


@dataclass(frozen=True)
class Scan:
    """One scan on its own grid, before anything is computed; its number fixes what is drawn."""

    set: str
    number: int
    name: str
    subject: str
    kind: str


def scans(data: str | None, count: int | None = None) -> Iterator[Scan]:
    """Yield the scans of all sets, each intact and degraded; of each at most ``count`` names."""
    cases = split_cases(list_cases(data), "label_maps")
    maps = [case.identifier for split in ("validation", "train") for case in cases.require(split)]
    named = [(name, name) for name in maps[:count]]
    for turn in range(ROUNDS):
        yield from _both(MADE_UP, named, turn)
    for name, split in MALC_SPLITS.items():
        found = HEADS.cases(split, data, count)
        yield from _both(name, [(case.identifier, case.group) for case in found])


def _both(name: str, named: list[tuple[str, str]], turn: int = 0) -> Iterator[Scan]:
    for number, (case, subject) in enumerate(named, start=turn * len(named)):
        kinds = (INTACT, DEGRADED[(number + turn) % len(DEGRADED)])
        for place, kind in enumerate(kinds):
            yield Scan(name, 2 * number + place, case, subject, kind)


def opened(scan: Scan, card: Card, data: str | None, *, multiple: int) -> tuple[Tensor, Tensor]:
    """Return the image on the model grid (``1 1 *grid``) and the true voxels of each class.

    Classes that were not drawn are NaN.
    """
    spacing = float(card.settings["data"]["spacing_mm"])
    if scan.set == MADE_UP:
        return _made_up(scan, card, data, spacing)
    case = next(c for c in HEADS.list_cases(data) if c.identifier == scan.name)
    volume, drawn = read_volume(case.images[0]), HEADS.drawn(case)
    volume = degraded(volume, scan.kind, seeded(SEED, scan.number + 1000))
    counts = count_voxels(HEADS.freesurfer_ids(drawn.data))
    per_voxel = drawn.voxel_ml * 1000 / spacing**3
    true = [counts.get(i, 0) * per_voxel if i in EVALUATION_LABELS else np.nan for i in card.labels]
    image = prepare_scan(card, volume, multiple=multiple).image
    return torch.from_numpy(image)[None, None], torch.tensor(true, dtype=torch.float64)


def _made_up(scan: Scan, card: Card, data: str | None, spacing: float) -> tuple[Tensor, Tensor]:
    case = next(c for c in list_cases(data) if c.identifier == scan.name)
    assert case.labels is not None  # the set is label maps
    make = LabelMapSynthesiser(
        [read_label_map(case.labels)],
        KINDS[scan.kind],
        spacing_mm=spacing,
        patch_shape=tuple(round(mm / spacing) for mm in HEAD_MM),
        labels=card.labels,
    )
    image, labels = make(seeded(SEED, scan.number))
    return image[None], torch.bincount(labels.flatten(), minlength=len(card.labels)).double()


def degraded(volume: Volume, kind: str, generator: Generator) -> Volume:
    """Return a scan as bad as a made-up head of this kind is, on its own grid."""
    if kind == INTACT:
        return volume
    image = normalise(torch.from_numpy(volume.data.astype(np.float32)))
    image = artefacts.degrade(image, kind, generator, spacing_mm=volume.spacing_mm)
    return replace(volume, data=image.numpy())
