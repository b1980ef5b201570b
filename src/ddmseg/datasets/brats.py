"""BraTS: gliomas in four contrasts, skull-stripped, 1 mm, 240 x 240 x 155.

The contrasts of a case always come in the order of ``MODALITIES``, in both ways of
naming: ``BraTS20_Training_001_t1ce.nii`` (to 2021) and ``BraTS-GLI-00000-000-t1c.nii.gz``
(from 2023), where the last number counts visits of one patient.

Ids to 2021: 1 necrosis, 2 oedema, 4 enhancing tumour (``protocol_map("brats")``). From
2023: 3 is enhancing tumour, and 4, where it occurs, the resection cavity
(``protocol_map("brats2023")``). ``protocol_of`` tells which; ``REGIONS`` has the nested
regions that the challenge scores, ``CLASSES`` the parts that a model learns.

Source: Menze et al. 2015, doi:10.1109/TMI.2014.2377694; Baid et al. 2021,
arXiv 2107.02314; terms of the challenge, research only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ddmseg.datasets.case import Case, data_folder, require_cases, volume_files, volume_stem
from ddmseg.datasets.patches import PatchSource
from ddmseg.datasets.split import SPLITS, split_by_person, with_labels
from ddmseg.datasets.subject import Subject, on_model_grid
from ddmseg.errors import ScanError
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.models.settings import DataSettings

NAME = "brats"
MODALITIES = ("t1", "t1ce", "t2", "flair")
"""Order of the images of a case: T1, T1 with contrast agent, T2, FLAIR."""
ENDINGS = {
    "t1": ("_t1", "-t1n"),
    "t1ce": ("_t1ce", "-t1c"),
    "t2": ("_t2", "-t2w"),
    "flair": ("_flair", "-t2f"),
}
"""Endings of the files, to 2021 and from 2023."""
LABEL_ENDINGS = ("_seg", "-seg")
STRAY_LABELS = "_Segm"
"""Ending of the one label map of 2020 that kept another name (case 355)."""

Protocol = Literal["brats", "brats2023"]
REGIONS: dict[Protocol, dict[str, tuple[int, ...]]] = {
    "brats": {"whole-tumour": (1, 2, 4), "tumour-core": (1, 4), "enhancing-tumour": (4,)},
    "brats2023": {"whole-tumour": (1, 2, 3), "tumour-core": (1, 3), "enhancing-tumour": (3,)},
}
"""Regions that the challenge scores, by ids; they overlap."""

CLASSES: dict[Protocol, dict[int, int]] = {
    "brats": {1: 1, 2: 2, 4: 3},
    "brats2023": {1: 1, 2: 2, 3: 3, 4: 0},
}
"""Class of each id: 1 necrosis, 2 oedema, 3 enhancing; a resection cavity is no tumour."""
MODEL_IDS: tuple[int, ...] = (0, 41001, 41002, 41003)
"""Id that a model writes for each class, see ``protocols/own.tsv``."""


def list_cases(
    root: str | os.PathLike[str] | None = None, *, modalities: Sequence[str] = MODALITIES
) -> list[Case]:
    """Return the cases of all years in the folder, however deep; the group is the patient.

    The images come in the order of ``modalities``.

    Raises:
        ScanError: when a modality is unknown or a case lacks one.
    """
    unknown = [name for name in modalities if name not in ENDINGS]
    if unknown:
        raise ScanError(f"modality: got '{unknown[0]}'; BraTS has {', '.join(MODALITIES)}")
    folder = data_folder(NAME, root)
    cases = []
    for subject in sorted(folder.rglob("[Bb][Rr][Aa][Tt][Ss]*"), key=lambda path: path.name):
        files = {volume_stem(path): path for path in volume_files(subject)}
        if any(stem.startswith(subject.name) for stem in files):
            cases.append(_case(subject.name, files, modalities))
    pattern = "BraTS2021_00000/BraTS2021_00000_flair.nii.gz"
    return require_cases(cases, folder, f"{pattern} or BraTS-GLI-00000-000-t2f.nii.gz")


def protocol_of(case: Case) -> Protocol:
    """Return which ids the labels of a case have, by the naming of its files."""
    return "brats2023" if _is_new(case.identifier) else "brats"


def _case(name: str, files: dict[str, Path], modalities: Sequence[str]) -> Case:
    new = _is_new(name)
    wanted = {modality: f"{name}{ENDINGS[modality][new]}" for modality in modalities}
    for modality, stem in wanted.items():
        if stem not in files:
            raise ScanError(
                f"{name}: no {modality} image; expected {stem}.nii.gz or .nii; "
                "add it or move the case away"
            )
    labels = files.get(name + LABEL_ENDINGS[new])
    stray = [path for stem, path in files.items() if stem.endswith(STRAY_LABELS)]
    group = name.rsplit("-", 1)[0] if new else name
    images = tuple(files[stem] for stem in wanted.values())
    return Case(name, images, labels or (stray[0] if stray else None), group)


def _is_new(name: str) -> bool:
    return "-" in name  # since 2023 names have hyphens alone


PARTS = REGIONS["brats2023"]
"""Nested regions by classes, which are numbered as the ids of 2023 are."""


class BratsSource(PatchSource):
    """Patches of the training patients; every patient's visits lie in one split.

    Raises:
        UsageError: when a split has no subject.
    """

    labels = MODEL_IDS
    always_present = ()
    structures: ClassVar = dict(enumerate(PARTS, start=1))
    data = (
        "BraTS (Menze et al. 2015, Bakas et al. 2017, Baid et al. 2021), gliomas in T1, T1 with "
        "contrast agent, T2 and FLAIR (split by a hash of the patient); for research"
    )
    licence = "terms of the challenge's year, research only"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        cases, left_out = with_labels(list_cases(root))
        split = split_by_person(cases, NAME)
        by_split = {name: split.cases(name) for name in SPLITS}
        super().__init__(by_split, settings, left_out)

    def read(self, case: Case) -> Subject:
        """Read the four contrasts and the labels, whichever ids their year has."""
        from ddmseg.imaging.nifti import read_label_map, read_volume

        assert case.labels is not None, "cases without labels are left out"
        scans, labels = [read_volume(path) for path in case.images], read_label_map(case.labels)
        classes, spacing_mm = CLASSES[protocol_of(case)], self._settings.spacing_mm
        return on_model_grid(case.identifier, scans, labels, classes, spacing_mm=spacing_mm)

    def score(self, subject: Subject, found: Tensor) -> list[Score]:
        """Score the nested regions of the challenge, each a union of parts."""
        (truth, spacing_mm), case = subject.truth, subject.identifier
        scores: list[Score] = []
        for index, (name, classes) in enumerate(PARTS.items(), start=1):
            members = torch.tensor(classes)
            ours, theirs = (index * torch.isin(one, members).numpy() for one in (found, truth))
            scores += score_case(case, ours, theirs, {index: name}, spacing_mm=spacing_mm)
        return scores
