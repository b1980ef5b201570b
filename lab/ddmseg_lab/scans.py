"""Scans with manual labels that shipped models are measured on, and how labels are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.datasets import hippocampus, malc2012
from ddmseg.datasets.case import Case
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS, protocol_map, remap
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.volume import LabelMap
from ddmseg.maths.metrics import dice
from ddmseg_lab.statistics import expected_calibration_error

Ids = NDArray[np.integer[Any]]  # FreeSurfer ids on the grid of a file


@dataclass(frozen=True)
class ScanSet:
    """Scans with a truth, and what of it is scored."""

    name: str
    list_cases: Callable[[str | None], list[Case]]
    freesurfer_ids: Callable[[Ids], Ids]
    """Of the labels that were drawn."""
    structures: tuple[int, ...]
    """FreeSurfer ids that both protocols draw."""

    def cases(self, split: str, data: str | None, count: int | None = None) -> list[Case]:
        """Return the scans of a split, at most so many."""
        chosen: list[Case] = split_cases(self.list_cases(data), self.name).require(split)
        return chosen[:count]

    def drawn(self, case: Case) -> LabelMap:
        """Return the manual labels of a scan as they were drawn."""
        assert case.labels is not None  # both sets have labels throughout
        return read_label_map(case.labels)

    def truth(self, case: Case) -> Ids:
        """Return the manual labels of a scan as FreeSurfer ids."""
        return self.freesurfer_ids(self.drawn(case).data)

    def mean_dice(self, case: Case, labels: Ids) -> float:
        """Return the mean Dice of a label map over the structures that either has."""
        return mean_dice(labels, self.truth(case), self.structures)


HEADS = ScanSet(
    malc2012.NAME, malc2012.list_cases, malc2012.freesurfer_ids, malc2012.EVALUATION_LABELS
)
"""MALC2012, which no training has seen."""
CROPS = ScanSet(
    hippocampus.NAME,
    hippocampus.list_cases,
    lambda drawn: remap(drawn, protocol_map(hippocampus.NAME)),
    HIPPOCAMPUS_LABELS[1:],
)
"""The hippocampus crops of the Decathlon."""


def structure_dice(labels: Ids, truth: Ids, structures: Sequence[int]) -> dict[int, float]:
    """Return the Dice of each structure; NaN where neither has it."""
    return {index: dice(labels == index, truth == index) for index in structures}


def mean_dice(labels: Ids, truth: Ids, structures: Sequence[int]) -> float:
    """Return the mean Dice of the structures that either has."""
    return float(np.nanmean(list(structure_dice(labels, truth, structures).values())))


def calibration_error(
    p: NDArray[np.float32], ids: Sequence[int], truth: Ids, structures: Sequence[int]
) -> float:
    """Return the ECE of the largest probability where answer or truth is a structure scored.

    The background that both agree on would hide everything else.

    ``p`` is ``i j k class``, ``ids`` the FreeSurfer id of each class.
    """
    named = np.asarray(ids)[p.argmax(-1)]
    judged = np.isin(named, structures) | np.isin(truth, structures)
    confidence = torch.from_numpy(p.max(-1)[judged]).clamp(0, 1)
    return expected_calibration_error(confidence, torch.from_numpy((named == truth)[judged]))
