"""A whole scan with its truth, as tables of scores want it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.file_grid import FileGrid
from ddmseg.datasets.source import Example, Source
from ddmseg.errors import ScanError
from ddmseg.imaging.augmentation import augment, centre
from ddmseg.imaging.preprocess_variants import NORMALISATIONS, prepare_intensities
from ddmseg.imaging.synthesis.draw import draw_chance
from ddmseg.imaging.synthesis.regions import repaint
from ddmseg.maths.case_scores import Score
from ddmseg.models.settings import DataSettings

Made = TypeVar("Made")

MARGIN_VOXELS = 4
"""Kept around the brain where slices are cut to it, in training as in prediction."""


@dataclass(frozen=True)
class Subject:
    """One labelled scan on its own grid, or on that of a network.

    Attributes:
        identifier: unique within its data set.
        image: normalised, ``c i j k``.
        labels: class indices, ``i j k``.
        spacing_mm: of the grid.
        slice_axis: spatial axis that 2-D networks cut across.
        channel_seconds: spent on channels that were made of the scan.
        file: the grid of the scan's files, where this is another.
    """

    identifier: str
    image: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    slice_axis: int = 1
    channel_seconds: float = 0.0
    file: FileGrid | None = None

    @property
    def truth(self) -> tuple[Tensor, tuple[float, float, float]]:
        """Class indices that an answer is compared with, and the spacing of their grid."""
        if self.file is None:
            return self.labels, self.spacing_mm
        return self.file.labels, self.file.spacing_mm

    def answer(self, probabilities: Tensor) -> Tensor:
        """Return class indices on the grid of the truth.

        Args:
            probabilities: ``k i j k`` on the grid of the image.
        """
        return probabilities.argmax(0) if self.file is None else self.file.classes(probabilities)


def box_around(inside: Tensor) -> tuple[slice, ...]:
    """Return the box of a mask's voxels (``i j k``) with a margin, or of all where it is empty."""
    places = inside.nonzero()
    if not len(places):
        return tuple(slice(0, n) for n in inside.shape)
    low = (places.min(0).values - MARGIN_VOXELS).clamp_min(0).tolist()
    high = (places.max(0).values + 1 + MARGIN_VOXELS).tolist()
    return tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, inside.shape, strict=True))


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


def read_labelled(case: Case, settings: DataSettings, *, slice_axis: int = 1) -> Subject:
    """Read one labelled scan, its intensities prepared as the settings say.

    Raises:
        ScanError: when it has no label map or a file is not usable.
        MissingExtraError: for ``data.bias_field`` without SimpleITK.
    """
    from ddmseg.imaging.nifti import read_label_map, read_volume

    if case.labels is None:
        raise ScanError(f"{case.identifier}: has no label map; training needs one")
    volume = read_volume(case.images[0])
    image = prepare_intensities(
        volume.data,
        volume.spacing_mm,
        normalisation=settings.normalisation,
        bias_field=settings.bias_field,
        resample_mm=settings.resample_mm,
    )
    labels = torch.from_numpy(read_label_map(case.labels).data.astype("int64"))
    return Subject(
        case.identifier, torch.from_numpy(image)[None], labels, volume.spacing_mm, slice_axis
    )


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
        settings: of the data.
        generator: on the CPU.
        tissues: of the classes, see :func:`repaint`.
        stripped: see :func:`repaint`.
    """
    # Nothing is drawn without need, so that runs without synthetic images stay what they were.
    if settings.synthetic_share and draw_chance(generator, settings.synthetic_share):
        painted = repaint(image, labels, generator, tissues=tissues, stripped=stripped)
        if painted.max() > painted.min():  # a slice of air alone has no contrast
            image = torch.from_numpy(NORMALISATIONS[settings.normalisation](painted.numpy()))
    if not settings.augment:
        return centre(image, labels, settings.patch)
    return augment(image, labels, settings.patch, len(tissues), generator)


def padded(image: Tensor, labels: Tensor, multiple: int = 8) -> Example:
    """Zero-pad both to a multiple on every axis, evenly on both sides."""
    shape = tuple(-(-n // multiple) * multiple for n in labels.shape)
    return centre(image, labels, shape)
