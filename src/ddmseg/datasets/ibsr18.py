"""IBSR18: 18 skull-stripped T1 scans with manual tissues 1 CSF, 2 GM, 3 WM.

CSF means the ventricles; sulcal CSF lies inside GM. ``protocol_map("ibsr18")``
turns FreeSurfer ids into these tissues. For evaluation only.

Source: Internet Brain Segmentation Repository, Massachusetts General Hospital.

Networks work on coronal slices, whose voxels are square; the slices lie 1.5 mm apart.
Scores are of whole subjects in 3-D, on the grid of the file.
"""

from __future__ import annotations

import os
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case, data_folder, require_cases, volume_files, volume_stem
from ddmseg.datasets.source import LabelledSource, Once, padded
from ddmseg.datasets.split import fold_cases
from ddmseg.datasets.subject import Example, Subject, box_around
from ddmseg.errors import UsageError
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import draw_integer

NAME = "ibsr18"
FOLDS = ("fold-1", "fold-2", "fold-3", "fold-4")
"""Splits of the labelled scans; each fold has scans of two or three spacing groups."""

LABELS_ENDING = "_seg"


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the scans, with labels where they were distributed."""
    folder = data_folder(NAME, root)
    files = {volume_stem(path): path for path in volume_files(folder)}
    cases = [
        Case(name, (path,), files.get(name + LABELS_ENDING), name)
        for name, path in files.items()
        if not name.endswith(LABELS_ENDING)
    ]
    return require_cases(cases, folder, "IBSR_01.nii.gz and IBSR_01_seg.nii.gz")


SLICE_AXIS = 1
"""The scans are stored left-right, back-front, down-up."""
VALIDATION_SUBJECTS = 2


class Ibsr18Source(LabelledSource):
    """Coronal slices of all folds but the one that is tested.

    The first two subjects of the fold after the tested one choose the weights and are
    not trained on.

    Raises:
        UsageError: when the fold is unknown or the patch is not 2-D.
    """

    # FreeSurfer has no id for "all grey matter"; these stand for the tissues here.
    labels = (0, 24, 3, 2)
    always_present = labels[1:]
    structures: ClassVar = {1: "CSF", 2: "GM", 3: "WM"}
    # Every slice of a brain holds grey and white matter; four in ten hold no ventricle.
    sought = (1,)
    tissues = (0, 1, 2, 3)
    stripped = True
    data = (
        "IBSR18, Massachusetts General Hospital, skull-stripped T1 with manual tissues "
        "(12 labelled subjects in 4 folds; split ibsr18.tsv); for evaluation only"
    )
    licence = "not to be passed on"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        if len(settings.patch) != 2:
            raise UsageError(f"data.patch: got {settings.patch}; ibsr18 is cut in slices, give two")
        listed, held = list_cases(root), VALIDATION_SUBJECTS
        cases = fold_cases(listed, NAME, settings.fold, FOLDS, validation=held)
        super().__init__(cases, settings)
        self._training = Once(lambda: [_brain_slices(s) for s in self.subjects("train")])

    def training_example(self, generator: Generator) -> Example:
        """Draw a slice of a training subject and change it at random."""
        subjects = self._training()
        images, labels = subjects[draw_integer(generator, 0, len(subjects))]
        number = draw_integer(generator, 0, len(images))
        return self.training_view(images[number], labels[number], generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Return slices spread evenly over the validation subjects."""
        pairs = [
            (image, truth)
            for subject in self.subjects("validation")
            for image, truth in zip(*_brain_slices(subject), strict=True)
        ]
        chosen = torch.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().long()
        return [padded(*pairs[int(number)]) for number in chosen]


def _brain_slices(subject: Subject) -> tuple[Tensor, Tensor]:
    """Return images (``n c i k``) and truth (``n i k``) inside the brain's box."""
    box = box_around(subject.labels > 0)
    image = subject.image[(slice(None), *box)].movedim(1 + SLICE_AXIS, 0).contiguous()
    return image, subject.labels[box].movedim(SLICE_AXIS, 0).contiguous()
