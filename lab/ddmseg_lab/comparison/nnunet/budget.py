"""How long nnU-Net trains to see as many examples as the other rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

ITERATIONS_AN_EPOCH = 10
"""nnU-Net's own 250 would be one epoch or none; its learning rate falls once an epoch."""
VALIDATION_SHARE = 5
"""nnU-Net validates on a batch for every five it trains on (250 and 50)."""
OWN_ITERATIONS = 1000 * 250
"""What nnU-Net does by default."""


@dataclass(frozen=True)
class Schedule:
    """A training cut short.

    Attributes:
        batch: examples an iteration, as nnU-Net planned it.
        epochs: iterations of each epoch.
        validation_iterations: batches that each epoch is validated on.
    """

    batch: int
    epochs: tuple[int, ...]
    validation_iterations: int

    @property
    def iterations(self) -> int:
        """Of the whole training."""
        return sum(self.epochs)

    @property
    def examples(self) -> int:
        """Seen in the whole training."""
        return self.iterations * self.batch


def cut_schedule(examples: int, batch: int) -> Schedule:
    """Return the longest training that sees no more than so many examples, one batch at least.

    Epochs differ by one iteration at most.

    Args:
        examples: that the other rows see, above 0.
        batch: that nnU-Net planned, above 0.

    >>> schedule = cut_schedule(3000, 9)
    >>> schedule.iterations, schedule.examples, len(schedule.epochs), max(schedule.epochs)
    (333, 2997, 33, 11)
    """
    iterations = max(1, examples // batch)
    count = max(1, iterations // ITERATIONS_AN_EPOCH)
    ends = [iterations * n // count for n in range(count + 1)]
    epochs = tuple(end - start for start, end in pairwise(ends))
    return Schedule(batch, epochs, -(-max(epochs) // VALIDATION_SHARE))
