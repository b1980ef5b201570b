"""What training asks of a data set, and what its sources share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from ddmseg.datasets.subject import Example, Subject
from ddmseg.imaging.augmentation import augment, centre, degraded
from ddmseg.imaging.preprocess_variants import NORMALISATIONS
from ddmseg.imaging.synthesis.regions import repaint
from ddmseg.maths.case_scores import Score
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import draw_chance

Made = TypeVar("Made")


class Source(Protocol):
    """Where examples come from."""

    labels: tuple[int, ...]
    """FreeSurfer id of each class, background first."""

    always_present: tuple[int, ...]
    """Those that every scan of this kind holds, however small."""

    data: str
    """What the data are and who made them, for the card."""

    licence: str
    """Under which weights trained on them may be passed on."""

    def training_example(self, generator: Generator) -> Example:
        """Draw one example; every call with an equal generator is equal."""

    def validation_examples(self, count: int) -> list[Example]:
        """Return the first ``count`` of a fixed list."""


class Finish(Protocol):
    """What is done to each subject after it has been read."""

    @property
    def parameters(self) -> int:
        """Of networks that this needs."""

    @property
    def train_seconds(self) -> float:
        """That their training took."""

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject as examples are drawn from it."""


class AsRead:
    """Leaves subjects as they are."""

    parameters = 0
    train_seconds = 0.0

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject itself."""
        return subject


class LabelledSource(Source, Protocol):
    """A source of real scans, some of which are kept for testing."""

    structures: ClassVar[dict[int, str]]
    """Name of each class that is scored."""

    sought: ClassVar[tuple[int, ...]]
    """Classes that a normal slice holds nothing of, where slices are called normal."""

    finish: Finish
    """What is done to each subject that is read."""

    def subjects(self, split: str) -> Iterator[Subject]:
        """Read the subjects of ``train``, ``validation`` or ``test``, one after the other."""

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""

    def score(self, subject: Subject, found: Tensor) -> list[Score]:
        """Score the class indices that were found on the grid of a subject's truth."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Reason by identifier, of cases that are in no split."""


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


def training_view(
    image: Tensor,
    labels: Tensor,
    settings: DataSettings,
    generator: Generator,
    *,
    tissues: tuple[int, ...],
    stripped: bool,
) -> Example:
    """Return an example as training sees it: repainted by chance, then changed and cut.

    Args:
        image: ``c *grid``.
        labels: class indices, ``*grid``.
        generator: on the CPU.
    """
    # Nothing is drawn without need, so that runs without synthetic images stay what they were.
    if settings.synthetic_share and draw_chance(generator, settings.synthetic_share):
        painted = repaint(image, labels, generator, tissues=tissues, stripped=stripped)
        if painted.max() > painted.min():  # a slice of air alone has no contrast
            image = torch.from_numpy(NORMALISATIONS[settings.normalisation](painted.numpy()))
    if not settings.augment:
        return centre(image, labels, settings.patch)
    image, labels = augment(image, labels, settings.patch, len(tissues), generator)
    share, spacing = settings.degraded_share, settings.spacing_mm
    return degraded(image, share, spacing, generator), labels


def padded(image: Tensor, labels: Tensor, multiple: int = 8) -> Example:
    """Zero-pad both to a multiple on every axis, evenly on both sides."""
    shape = tuple(-(-n // multiple) * multiple for n in labels.shape)
    return centre(image, labels, shape)
