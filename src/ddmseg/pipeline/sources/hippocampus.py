"""Real hippocampus crops of the Decathlon with manual labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Generator

from ddmseg.imaging.datasets.case import Case
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.pipeline.batches import Example
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources.subject import (
    AsRead,
    Finish,
    Once,
    Subject,
    padded,
    read_labelled,
    training_view,
)


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
    sought: ClassVar[tuple[int, ...]] = (1, 2)
    tissues: ClassVar[tuple[int, ...]] = (0, 1, 1)
    """Both parts are one tissue: no contrast tells them apart."""

    def __init__(
        self, settings: DataSettings, root: str | None = None, *, finish: Finish | None = None
    ) -> None:
        from ddmseg.imaging.datasets.hippocampus import list_cases
        from ddmseg.imaging.datasets.splits import split_cases

        self._settings = settings
        self.finish: Finish = finish or AsRead()
        split = split_cases(list_cases(root), "hippocampus")
        self._cases = {name: split.cases(name) for name in ("train", "validation", "test")}
        if settings.subjects:
            self._cases["train"] = self._cases["train"][: settings.subjects]
        self._training = Once(lambda: [(s.image, s.labels) for s in self.training_subjects()])

    def training_example(self, generator: Generator) -> Example:
        """Draw a training crop and change it at random."""
        crops = self._training()
        image, labels = crops[int(torch.randint(len(crops), (), generator=generator))]
        return training_view(
            image, labels, self._settings, generator, tissues=self.tissues, stripped=False
        )

    def validation_examples(self, count: int) -> list[Example]:
        """Return whole validation crops, zero-padded to a multiple of 8."""
        subjects = self._read(self._cases["validation"][:count])
        return [padded(subject.image, subject.labels) for subject in subjects]

    def subjects(self, split: str) -> Iterator[Subject]:
        """Read the crops of a split, one after the other."""
        return self._read(self._cases[split])

    def training_subjects(self) -> Iterator[Subject]:
        """Read the training crops, one after the other."""
        return self._read(self._cases["train"])

    def test_subjects(self) -> Iterator[Subject]:
        """Read the test crops, one after the other."""
        return self._read(self._cases["test"])

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""
        return {name: [case.identifier for case in cases] for name, cases in self._cases.items()}

    def _read(self, cases: list[Case]) -> Iterator[Subject]:
        return (self.finish(read_labelled(case, self._settings)) for case in cases)


def read_example(case: Case, settings: DataSettings | None = None) -> Example:
    """Read, normalise and index one hippocampus case (not padded).

    Raises:
        ScanError: when it has no label map or a file is not usable.
    """
    subject = read_labelled(case, settings or DataSettings(kind="hippocampus"))
    return subject.image, subject.labels
