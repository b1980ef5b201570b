"""The grid of a scan's files, for subjects that were brought to another to be trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.imaging.preprocess import Prepared


@dataclass(frozen=True, eq=False)
class FileGrid:
    """Where the truth was drawn, and the way there from the grid of a network.

    Attributes:
        prepared: how the scan came from one grid to the other.
        labels: class indices of the truth, ``i j k`` of the file.
        spacing_mm: of the file.
    """

    prepared: Prepared
    labels: Tensor
    spacing_mm: tuple[float, float, float]

    def classes(self, probabilities: Tensor) -> Tensor:
        """Return the winning class at each voxel of the file.

        Args:
            probabilities: ``k i j k`` on the grid of the network.
        """
        winner = self.prepared.labels_to_input(probabilities, range(len(probabilities)))
        return torch.from_numpy(winner.astype("int64"))
