"""LPBA40's skull-stripped T1 scans with 56 structures drawn by hand, in folds of subjects."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ddmseg.datasets import lpba40_files as lpba40
from ddmseg.datasets.case import Case
from ddmseg.datasets.model_grid import on_model_grid
from ddmseg.datasets.patches import PatchSource
from ddmseg.datasets.split_source import fold_cases, with_labels
from ddmseg.datasets.subject import Finish, Subject
from ddmseg.imaging.labels import mirror_index, structure
from ddmseg.models.settings import DataSettings

VALIDATION_SUBJECTS = 4
IDS = lpba40.model_ids()
CLASSES = {index: place for place, index in enumerate(IDS, start=1)}
"""Class of each id of the set."""
LABELS = (0, *IDS.values())
MIRRORED = torch.tensor([LABELS.index(mirror_index(index)) for index in LABELS])
"""Class of the same structure on the other side."""


class Lpba40Source(PatchSource):
    """Patches of all folds but the one that is tested, in delineation space.

    The first four subjects of the fold after the tested one choose the weights and are
    not trained on.

    Raises:
        UsageError: when the fold is unknown or a split has no subject.
    """

    labels = LABELS
    always_present = LABELS[1:]
    structures: ClassVar[dict[int, str]] = {
        place: structure(index).name for place, index in enumerate(IDS.values(), start=1)
    }
    mirrored: ClassVar[Tensor | None] = MIRRORED
    data = (
        "LPBA40, Laboratory of Neuro Imaging (Shattuck et al. 2008), skull-stripped T1 with 56 "
        "structures in delineation space (40 subjects in 4 folds; split lpba40.tsv); for research"
    )
    licence = "not to be passed on without leave of the Laboratory of Neuro Imaging"

    def __init__(
        self, settings: DataSettings, root: str | None = None, *, finish: Finish | None = None
    ) -> None:
        cases, left_out = with_labels(lpba40.list_cases(root))
        folds = fold_cases(
            cases, lpba40.NAME, settings.fold, lpba40.FOLDS, validation=VALIDATION_SUBJECTS
        )
        super().__init__(folds, settings, finish=finish, left_out=left_out)

    def read(self, case: Case) -> Subject:
        """Read a pair of Analyze files, turned as the labels say."""
        scan, labels = lpba40.read_case(case)
        assert labels is not None, "cases without labels are left out"
        spacing_mm = self._settings.spacing_mm
        return on_model_grid(case.identifier, [scan], labels, CLASSES, spacing_mm=spacing_mm)
