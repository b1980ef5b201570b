"""What training asks of a data set, and what sources of real scans share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.subject import Example, Subject, read_labelled
from ddmseg.imaging.augmentation import augment, centre, degraded
from ddmseg.imaging.preprocess_variants import NORMALISATIONS
from ddmseg.imaging.synthesis.regions import repaint
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import draw_chance

Made = TypeVar("Made")


class Source(Protocol):
    """Where examples come from.

    Attributes:
        labels: FreeSurfer id of each class, background first.
        always_present: those that every scan of this kind holds, however small.
        data: what the data are and who made them, for the card.
        licence: under which weights trained on them may be passed on.
    """

    labels: tuple[int, ...]
    always_present: tuple[int, ...]
    data: str
    licence: str

    def training_example(self, generator: Generator) -> Example:
        """Draw one example; every call with an equal generator is equal."""

    def validation_examples(self, count: int) -> list[Example]:
        """Return the first ``count`` of a fixed list."""


class Finish:
    """What is done to each subject after it has been read; as it stands, nothing."""

    @property
    def parameters(self) -> int:
        """Of networks that this needs."""
        return 0

    @property
    def train_seconds(self) -> float:
        """That their training took."""
        return 0.0

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject as examples are drawn from it."""
        return subject


class LabelledSource(Source):
    """A source of real scans, some of which are kept for testing.

    Args:
        cases: of ``train``, ``validation`` and ``test``; ``settings.subjects`` above 0 keeps
            the first so many of training.
        left_out: reason by identifier, of cases that are in no split.

    Attributes:
        finish: done to each subject that is read.
        structures: name of each class that is scored.
        sought: classes that a normal slice holds nothing of, where slices are called normal.
        tissues: of each class, where images are repainted.
        stripped: the scans show no skull.
    """

    structures: ClassVar[dict[int, str]]
    sought: ClassVar[tuple[int, ...]] = ()
    tissues: ClassVar[tuple[int, ...]] = ()
    stripped: ClassVar[bool] = False

    def __init__(
        self,
        cases: Mapping[str, Sequence[Case]],
        settings: DataSettings,
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.left_out = dict(left_out)
        self.finish = Finish()
        self._settings = settings
        self._cases = {name: list(some) for name, some in cases.items()}
        if settings.subjects:
            self._cases["train"] = self._cases["train"][: settings.subjects]

    def subjects(self, split: str, count: int | None = None) -> Iterator[Subject]:
        """Read all subjects, or so many, of ``train``, ``validation`` or ``test``."""
        for case in self._cases[split][:count]:
            yield self.finish(self.read(case))

    def read(self, case: Case) -> Subject:
        """Read one case on the grid of its file."""
        return read_labelled(case, self._settings)

    def score(self, subject: Subject, found: Tensor) -> list[Score]:
        """Score the class indices that were found on the grid of a subject's truth."""
        (truth, spacing_mm), name = subject.truth, subject.identifier
        return score_case(
            name, found.numpy(), truth.numpy(), self.structures, spacing_mm=spacing_mm
        )

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""
        return {name: [case.identifier for case in cases] for name, cases in self._cases.items()}

    def training_view(self, image: Tensor, labels: Tensor, generator: Generator) -> Example:
        """Return an example as training sees it: repainted by chance, then changed and cut.

        Args:
            image: ``c *grid``.
            labels: class indices, ``*grid``.
            generator: on the CPU.
        """
        settings, tissues = self._settings, self.tissues
        # Nothing is drawn without need, so that runs without synthetic images stay what they were.
        if settings.synthetic_share and draw_chance(generator, settings.synthetic_share):
            painted = repaint(image, labels, generator, tissues=tissues, stripped=self.stripped)
            if painted.max() > painted.min():  # a slice of air alone has no contrast
                image = torch.from_numpy(NORMALISATIONS[settings.normalisation](painted.numpy()))
        if not settings.augment:
            return centre(image, labels, settings.patch)
        image, labels = augment(image, labels, settings.patch, len(tissues), generator)
        share, spacing = settings.degraded_share, settings.spacing_mm
        return degraded(image, share, spacing, generator), labels


class Once(Generic[Made]):
    """Something that is made when it is first asked for, once, whatever the threads."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []
        self._lock = threading.Lock()

    def __call__(self) -> Made:
        """Return it."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
        return self._made[0]


def padded(image: Tensor, labels: Tensor, multiple: int = 8) -> Example:
    """Zero-pad both to a multiple on every axis, evenly on both sides."""
    return centre(image, labels, tuple(-(-n // multiple) * multiple for n in labels.shape))
