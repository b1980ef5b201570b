"""Medical Segmentation Decathlon, Task04: T1 crops around one hippocampus.

Labels: 1 anterior, 2 posterior (``protocol_map("hippocampus")``).

Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; CC-BY-SA 4.0.
"""

from __future__ import annotations

import os
from typing import ClassVar

import torch
from torch import Generator

from ddmseg.datasets.case import Case, data_folder, require_cases, volume_files, volume_stem
from ddmseg.datasets.source import LabelledSource, Once, padded
from ddmseg.datasets.split import SPLITS, split_cases
from ddmseg.datasets.subject import Example
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.models.settings import DataSettings

NAME = "hippocampus"


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the cases of ``imagesTr``; each is a group of its own."""
    folder = data_folder(NAME, root)
    cases = []
    for image in volume_files(folder / "imagesTr"):
        labels, name = folder / "labelsTr" / image.name, volume_stem(image)
        cases.append(Case(name, (image,), labels if labels.is_file() else None, name))
    return require_cases(cases, folder, "imagesTr/hippocampus_001.nii.gz")


class HippocampusSource(LabelledSource):
    """Real crops with manual labels, held in memory, augmented on the way."""

    labels = HIPPOCAMPUS_LABELS
    always_present = HIPPOCAMPUS_LABELS[1:]
    data = (
        "Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022), T1 crops "
        "with manual labels (150 subjects for training, 20 for validation, 47 for testing; "
        "split hippocampus.tsv)"
    )
    licence = "CC-BY-SA-4.0"
    structures: ClassVar = {1: "anterior", 2: "posterior"}
    sought = (1, 2)
    tissues = (0, 1, 1)  # no contrast tells the two parts apart

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        split = split_cases(list_cases(root), NAME)
        super().__init__({name: split.cases(name) for name in SPLITS}, settings)
        self._training = Once(lambda: [(s.image, s.labels) for s in self.subjects("train")])

    def training_example(self, generator: Generator) -> Example:
        """Draw a training crop and change it at random."""
        crops = self._training()
        image, labels = crops[int(torch.randint(len(crops), (), generator=generator))]
        return self.training_view(image, labels, generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Return whole validation crops, zero-padded to a multiple of 8."""
        return [padded(s.image, s.labels) for s in self.subjects("validation", count)]
