"""One scan of a run, and an input that holds none."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddmseg.imaging.dicom.series import Series


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        path: of the file; for DICOM of the folder, archive or file that holds it.
        stem: what the names of its results begin with.
        subfolder: of the output folder, where its results go; empty for none.
        series: which one of a DICOM input; None for NIfTI.
        source: its path below the root of a BIDS folder; empty where results are not to be
            BIDS derivatives.
    """

    path: Path
    stem: str
    subfolder: str = ""
    series: Series | None = None
    source: str = ""

    def folder(self, output: Path) -> Path:
        """Return where the results go."""
        return output / self.subfolder

    def count_voxels(self) -> int:
        """Return how many it has by its header; 0 where that cannot be read."""
        from ddmseg.inference.memory import voxels_in_header

        if self.series is not None:
            return math.prod(self.series.shape)
        return voxels_in_header(self.path)

    @property
    def home(self) -> tuple[str, ...]:
        """The folders that it lies in, outermost first; a DICOM input is one itself.

        By the path that was given: links of an archive lead to names that say nothing.
        """
        path = Path(os.path.abspath(self.path))
        if self.series is None:
            return path.parent.parts[1:]
        return (path.with_suffix("") if path.is_file() else path).parts[1:]

    def below(self, root: Path) -> str | None:
        """Return the folders that it has below another one; None where it lies elsewhere."""
        top = Path(os.path.abspath(root)).parts[1:]
        return "/".join(self.home[len(top) :]) if self.home[: len(top)] == top else None


@dataclass(frozen=True)
class Refused:
    """An input that holds no scan, and why."""

    path: Path
    error: Exception
