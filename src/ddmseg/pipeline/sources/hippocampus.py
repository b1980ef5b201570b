"""Real hippocampus crops of the Decathlon with manual labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Generator

from ddmseg.errors import ScanError
from ddmseg.imaging.augmentation import augment, centre
from ddmseg.imaging.datasets.case import Case
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.pipeline.batches import Example
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources.subject import Subject, padded


class HippocampusSource:
    """Real crops with manual labels, held in memory, augmented on the way."""

    labels = HIPPOCAMPUS_LABELS
    always_present = HIPPOCAMPUS_LABELS[1:]
    data = (
        "Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022), T1 crops "
        "with manual labels (150 subjects for training, 20 for validation, 47 for testing; "
        "split hippocampus.tsv)"
    )
    licence = "CC-BY-SA-4.0"
    structures: ClassVar[dict[int, str]] = {1: "anterior", 2: "posterior"}

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        from ddmseg.imaging.datasets.hippocampus import list_cases
        from ddmseg.imaging.datasets.splits import split_cases

        self._settings = settings
        split = split_cases(list_cases(root), "hippocampus")
        self._cases = {name: split.cases(name) for name in ("train", "validation", "test")}
        if settings.subjects:
            self._cases["train"] = self._cases["train"][: settings.subjects]
        self._training = [read_example(case) for case in self._cases["train"]]

    def training_example(self, generator: Generator) -> Example:
        """Draw a training crop and change it at random."""
        image, labels = self._training[
            int(torch.randint(len(self._training), (), generator=generator))
        ]
        if not self._settings.augment:
            return centre(image, labels, self._settings.patch)
        return augment(image, labels, self._settings.patch, len(self.labels), generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Return whole validation crops, zero-padded to a multiple of 8."""
        return [padded(*read_example(case)) for case in self._cases["validation"][:count]]

    def test_subjects(self) -> Iterator[Subject]:
        """Read the test crops, one after the other."""
        for case in self._cases["test"]:
            image, labels = read_example(case)
            yield Subject(case.identifier, image, labels, (1.0, 1.0, 1.0))

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""
        return {name: [case.identifier for case in cases] for name, cases in self._cases.items()}


def read_example(case: Case) -> Example:
    """Read, normalise and index one hippocampus case (not padded).

    Raises:
        ScanError: when it has no label map or a file is not usable.
    """
    from ddmseg.imaging.intensity import normalise
    from ddmseg.imaging.nifti import read_label_map, read_volume

    if case.labels is None:
        raise ScanError(f"{case.identifier}: has no label map; training needs one")
    image = torch.from_numpy(normalise(read_volume(case.images[0]).data))
    labels = torch.from_numpy(read_label_map(case.labels).data.astype("int64"))
    return image[None], labels
