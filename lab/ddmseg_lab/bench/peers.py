"""What another tool must offer to be measured beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PeerOutcome:
    """What another tool did with one scan.

    Attributes:
        costs: ``seconds`` and ``processor_seconds`` from reading to writing, after loading,
            and ``peak_memory_gb`` of its process.
        labels: FreeSurfer ids on the scan's grid; None where it gives none.
        shared: ids that both it and ddmseg draw.
    """

    costs: Mapping[str, float]
    labels: Ids | None = None
    shared: tuple[int, ...] = ()


class Peer(Protocol):
    """Another tool, ready to run here."""

    @property
    def name(self) -> str:
        """As typed after ``--peers``."""
        ...

    @property
    def title(self) -> str:
        """As a reader calls it."""
        ...

    @property
    def version(self) -> str:
        """Of the tool; another one is measured anew."""
        ...

    def segment(self, scan: Path, folder: Path, threads: int) -> PeerOutcome:
        """Segment a scan in a process of its own.

        Args:
            scan: a NIfTI file.
            folder: for labels and logs, empty.
            threads: of the processor that it may use.

        Raises:
            ScanError: when the tool fails.
        """
        ...
