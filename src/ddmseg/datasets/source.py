"""What training asks of a data set."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor

Example = tuple[Tensor, Tensor]
"""Normalised image ``c *grid`` and class indices ``*grid``."""


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
