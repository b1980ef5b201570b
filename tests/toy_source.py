"""Something to be learned from, as a command gets it."""

from __future__ import annotations

import os
import signal

import torch

SUBJECTS = 6
"""For validation: each costs a calibration a dozen masks."""


class ToySource:
    """A ball to be found in a noisy cube; sends this process a signal at an example."""

    labels = (0, 2)
    always_present = (2,)
    data = "toys"
    licence = "none"
    signal_at: int | None = None
    drawn = 0

    def example(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.stack(torch.meshgrid(*[torch.arange(16.0) - 7.5] * 3, indexing="ij"))
        labels = (places.norm(dim=0) < 5).long()
        return (labels + 0.1 * torch.randn(labels.shape, generator=generator))[None], labels

    def training_example(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        ToySource.drawn += 1
        if ToySource.drawn == ToySource.signal_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.example(generator)

    def validation_examples(self, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [self.example(torch.Generator().manual_seed(i)) for i in range(min(count, SUBJECTS))]
