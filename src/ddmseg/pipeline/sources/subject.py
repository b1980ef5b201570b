"""A whole scan with its truth, as tables of scores want it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ddmseg.imaging.augmentation import centre
from ddmseg.pipeline.batches import Example, Source


@dataclass(frozen=True)
class Subject:
    """One test scan on its own grid.

    Attributes:
        identifier: unique within its data set.
        image: normalised, ``c i j k``.
        labels: class indices, ``i j k``.
        spacing_mm: of the grid.
        slice_axis: spatial axis that 2-D networks cut across.
    """

    identifier: str
    image: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    slice_axis: int = 1


class LabelledSource(Source, Protocol):
    """A source of real scans, some of which are kept for testing."""

    structures: ClassVar[dict[int, str]]
    """Name of each class that is scored."""

    def test_subjects(self) -> Iterator[Subject]:
        """Read the test subjects, one after the other."""

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""


def padded(image: Tensor, labels: Tensor, multiple: int = 8) -> Example:
    """Zero-pad both to a multiple on every axis, evenly on both sides."""
    shape = tuple(-(-n // multiple) * multiple for n in labels.shape)
    return centre(image, labels, shape)
