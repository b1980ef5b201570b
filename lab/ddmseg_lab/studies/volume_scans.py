"""Scans whose volumes are known, for contests of intervals: made-up heads, and scans drawn by hand.

Each comes intact and degraded by the same law (``made_up_heads.KINDS``): thick slices of 3 to 6 mm,
noise, motion or low resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case
from ddmseg.imaging.labels import count_voxels
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.models.checkpoint import Card
from ddmseg.randomness import seeded
from ddmseg_lab.made_up_heads import INTACT, KINDS, degraded, made_up
from ddmseg_lab.scans import ScanSet

WAYS = tuple(kind for kind in KINDS if kind != INTACT)
"""In which a scan is degraded."""
SEED = 993


@dataclass(frozen=True)
class Scan:
    """One scan on its own grid, before anything is computed."""

    set: str
    number: int
    case: Case
    kind: str
    drawn: ScanSet | None
    """What the scan is of; None for a head that is made up of a label map."""
    draw: int
    """Number that fixes how it is made up or degraded."""

    @property
    def at(self) -> dict[str, Any]:
        """Columns that name the scan; all heads of a label map are one subject."""
        name = self.case.identifier
        at = {"set": self.set, "number": self.number, "name": name, "kind": self.kind}
        return {**at, "subject": name if self.drawn is None else self.case.group}

    def opened(self, card: Card, *, multiple: int) -> tuple[Tensor, list[float]]:
        """Return the image on the model grid (``1 1 *grid``) and the true voxels of each class.

        Classes that were not drawn by hand are NaN.
        """
        generator = seeded(SEED, self.draw)
        if self.drawn is not None:
            return self._drawn(self.drawn, card, multiple, generator)
        image, labels = made_up(self.case, self.kind, card, generator)
        return image[None], torch.bincount(labels.flatten(), minlength=len(card.labels)).tolist()

    def _drawn(
        self, scans: ScanSet, card: Card, multiple: int, generator: Generator
    ) -> tuple[Tensor, list[float]]:
        drawn, own = scans.drawn(self.case), scans.structures
        counts = count_voxels(scans.freesurfer_ids(drawn.data))
        per_voxel = drawn.voxel_ml * 1000 / float(card.settings["data"]["spacing_mm"]) ** 3
        true = [counts.get(i, 0) * per_voxel if i in own else math.nan for i in card.labels]
        scan = degraded(read_volume(self.case.images[0]), self.kind, generator)
        image = prepare_scan(card, scan, multiple=multiple).image
        return torch.from_numpy(image)[None, None], true


def intact_and_degraded(
    name: str,
    cases: Sequence[Case],
    drawn: ScanSet | None = None,
    *,
    turn: int = 0,
    first_draw: int = 0,
) -> Iterator[Scan]:
    """Yield each case of a set twice; ``turn`` counts how often the cases came before."""
    for place, case in enumerate(cases, start=turn * len(cases)):
        for number, kind in enumerate((INTACT, WAYS[(place + turn) % len(WAYS)]), 2 * place):
            yield Scan(name, number, case, kind, drawn, first_draw + number)
