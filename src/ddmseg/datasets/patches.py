"""Patches of whole scans with many structures or contrasts, on the grid of a network."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.source import LabelledSource
from ddmseg.datasets.subject import Example, Subject
from ddmseg.errors import UsageError
from ddmseg.imaging.augmentation import augment, centre, degraded
from ddmseg.models.available_memory import memory_for_this_process
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import VALIDATION_SEED, draw_chance, draw_integer, seeded

SHARE_OF_STRUCTURES = 0.5
"""Of patches that lie about a voxel of a structure, each structure as often as any other."""
SHARE_OF_MEMORY = 0.5
"""That training subjects may fill; those beyond are read anew each time."""
ROOM_UNKNOWN = 4 * 2**30
"""Bytes for them where the system does not tell how much memory it has."""


class PatchSource(LabelledSource):
    """Patches about random places of training subjects; scores are of whole subjects.

    Raises:
        UsageError: when a split has no case.
    """

    # Slices of these sets are never called normal (none is sought): data.maps is refused.
    mirrored: ClassVar[Tensor | None] = None
    """Class that each one becomes in the mirror; None where classes have no sides."""

    def __init__(
        self,
        cases: Mapping[str, Sequence[Case]],
        settings: DataSettings,
        left_out: Mapping[str, str],
    ) -> None:
        empty = next((name for name, some in cases.items() if not some), None)
        if empty is not None:
            reasons = ", ".join(sorted(set(left_out.values())))
            told = f" ({len(left_out)} left out: {reasons})" if left_out else ""
            raise UsageError(
                f"data.kind: {settings.kind} has no {empty} subject here{told}; unpack more of "
                "the set"
            )
        super().__init__(cases, settings, left_out)
        self._shelf = Shelf(self, len(self._cases["train"]))

    @abstractmethod
    def read(self, case: Case) -> Subject:
        """Read a case onto the grid of the network."""

    def training_subject(self, number: int) -> Subject:
        """Read one training subject, its labels small and without what only scoring needs."""
        subject = self.finish(self.read(self._cases["train"][number]))
        return replace(subject, labels=subject.labels.to(torch.uint8), file=None)

    def training_example(self, generator: Generator) -> Example:
        """Draw a place in a training subject, cut a patch there and change it at random."""
        subject = self._shelf(draw_integer(generator, 0, len(self._cases["train"])))
        labels, patch = subject.labels.long(), self._settings.patch
        middle = draw_middle(subject.image, labels, patch, generator)
        if not self._settings.augment:
            return cut(subject.image, labels, patch, middle)
        scans, classes = len(subject.image), len(self.labels)
        augmented = partial(augment, middle=middle, scans=scans, mirrored=self.mirrored)
        image, labels = augmented(subject.image, labels, patch, classes, generator)
        share, spacing = self._settings.degraded_share, self._settings.spacing_mm
        return degraded(image, share, spacing, generator, scans=scans), labels

    def validation_examples(self, count: int) -> list[Example]:
        """Return patches at fixed places, spread evenly over the validation subjects."""
        cases, patch = min(count, len(self._cases["validation"])), self._settings.patch
        found: dict[int, Example] = {}
        for first, subject in enumerate(self.subjects("validation", cases)):
            image, labels = subject.image, subject.labels
            for number in range(first, count, cases):
                middle = draw_middle(image, labels, patch, seeded(VALIDATION_SEED, number))
                found[number] = cut(image, labels, patch, middle)
        return [found[number] for number in range(count)]


class Shelf:
    """Training subjects, kept in memory while there is room (in bytes), whatever the threads.

    Who came first stays: when places are drawn evenly, nothing is gained by turning out
    one subject for another. Without ``room`` it is a share of the memory there is.
    """

    def __init__(self, source: PatchSource, count: int, room: int | None = None) -> None:
        self._source = source
        self._kept: dict[int, Subject] = {}
        self._locks = [threading.Lock() for _ in range(count)]
        memory = memory_for_this_process()
        known = ROOM_UNKNOWN if memory is None else int(SHARE_OF_MEMORY * memory)
        self._room = known if room is None else room

    def __call__(self, number: int) -> Subject:
        """Return one of them."""
        with self._locks[number]:
            if number in self._kept:
                return self._kept[number]
            subject = self._source.training_subject(number)
            size = subject.image.nbytes + subject.labels.nbytes
            if size <= self._room:
                self._room -= size
                self._kept[number] = subject
            return subject


def draw_middle(
    image: Tensor, labels: Tensor, patch: Sequence[int], generator: Generator
) -> list[float]:
    """Draw the voxel that a patch lies about, such that it reaches no further than it must.

    The image (``c i j k``) is 0 where there is air; labels are class indices (``i j k``).
    """
    inside = (image > 0).any(0)
    structures = [n for n in torch.bincount(labels.flatten()).nonzero().flatten().tolist() if n]
    if structures and draw_chance(generator, SHARE_OF_STRUCTURES):
        inside = labels == structures[draw_integer(generator, 0, len(structures))]
    places = inside.nonzero()
    place = places[draw_integer(generator, 0, len(places))].tolist()
    return [
        (n - 1) / 2 if n <= size else min(max(at, (size - 1) / 2), n - 1 - (size - 1) / 2)
        for at, size, n in zip(place, patch, labels.shape, strict=True)
    ]


def cut(image: Tensor, labels: Tensor, patch: Sequence[int], middle: Sequence[float]) -> Example:
    """Cut a patch about a voxel, without any change; zero-padded where the example is smaller."""
    box = []
    for at, size, n in zip(middle, patch, labels.shape, strict=True):
        start = 0 if n <= size else min(max(round(at - (size - 1) / 2), 0), n - size)
        box.append(slice(start, start + size))
    return centre(image[(slice(None), *box)], labels[tuple(box)], tuple(patch))
