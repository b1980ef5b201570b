"""Gliomas of BraTS in four contrasts; the three parts of a tumour, of all years alike."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ddmseg.datasets import brats_files as brats
from ddmseg.datasets.case import Case
from ddmseg.datasets.model_grid import on_model_grid
from ddmseg.datasets.patches import PatchSource
from ddmseg.datasets.split_source import with_labels
from ddmseg.datasets.subject import Finish, Subject
from ddmseg.evaluation.scores import Score, score_case
from ddmseg.models.settings import DataSettings

REGIONS = brats.REGIONS["brats2023"]
"""Nested regions by classes, which are numbered as the ids of 2023 are."""


class BratsSource(PatchSource):
    """Patches of the training patients; every patient's visits lie in one split.

    Raises:
        UsageError: when a split has no subject.
    """

    labels = brats.MODEL_IDS
    always_present: tuple[int, ...] = ()
    structures: ClassVar[dict[int, str]] = dict(enumerate(REGIONS, start=1))
    data = (
        "BraTS (Menze et al. 2015, Bakas et al. 2017, Baid et al. 2021), gliomas in T1, T1 with "
        "contrast agent, T2 and FLAIR (split by a hash of the patient); for research"
    )
    licence = "terms of the challenge's year, research only"

    def __init__(
        self, settings: DataSettings, root: str | None = None, *, finish: Finish | None = None
    ) -> None:
        from ddmseg.datasets.person_split import split_by_person

        cases, left_out = with_labels(brats.list_cases(root))
        split = split_by_person(cases, brats.NAME)
        by_split = {name: split.cases(name) for name in ("train", "validation", "test")}
        super().__init__(by_split, settings, finish=finish, left_out=left_out)

    def read(self, case: Case) -> Subject:
        """Read the four contrasts and the labels, whichever ids their year has."""
        from ddmseg.imaging.nifti import read_label_map, read_volume

        assert case.labels is not None, "cases without labels are left out"
        return on_model_grid(
            case.identifier,
            [read_volume(path) for path in case.images],
            read_label_map(case.labels),
            brats.CLASSES[brats.protocol_of(case)],
            spacing_mm=self._settings.spacing_mm,
        )

    def score(self, subject: Subject, found: Tensor) -> list[Score]:
        """Score the nested regions of the challenge, each a union of parts."""
        truth, spacing_mm = subject.truth
        scores: list[Score] = []
        for index, (name, classes) in enumerate(REGIONS.items(), start=1):
            members = torch.tensor(classes)
            maps = [index * torch.isin(one, members).long() for one in (found, truth)]
            scores += score_case(
                subject.identifier,
                maps[0].numpy(),
                maps[1].numpy(),
                {index: name},
                spacing_mm=spacing_mm,
            )
        return scores
