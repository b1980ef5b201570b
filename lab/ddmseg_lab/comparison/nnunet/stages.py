"""nnU-Net's training cut to the budget of the other rows, and its stages run in its own Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ddmseg.errors import TrainingError
from ddmseg_lab.comparison.foreign_python import (
    Listener,
    foreign_environment,
    last_line,
    run_driver,
)

ITERATIONS_PER_EPOCH = 10
"""nnU-Net's own 250 would be one epoch or none; its learning rate falls once per epoch."""
VALIDATION_SHARE = 5
"""nnU-Net validates on a batch for every five it trains on (250 and 50)."""
OWN_ITERATIONS = 1000 * 250
"""What nnU-Net does by default."""
DRIVER = Path(__file__).with_name("driver.py")
LOG_FILE = "nnunet.log"
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""What ``keep_freed_memory`` does for the other rows, for a training yet to start.

Source: mallopt(3), environment variables.
"""


@dataclass(frozen=True)
class Schedule:
    """A training cut short: iterations of each epoch, and batches that each is validated on."""

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

    >>> schedule = cut_schedule(3000, 9)
    >>> schedule.iterations, schedule.examples, len(schedule.epochs), max(schedule.epochs)
    (333, 2997, 33, 11)
    """
    iterations = max(1, examples // batch)
    count = max(1, iterations // ITERATIONS_PER_EPOCH)
    ends = [iterations * n // count for n in range(count + 1)]
    epochs = tuple(end - start for start, end in pairwise(ends))
    return Schedule(batch, epochs, -(-max(epochs) // VALIDATION_SHARE))


def run_stage(
    python: str, stage: str, job: Mapping[str, Any], folder: Path, variables: Mapping[str, str],
    listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run a stage of the driver, ``prepare``, ``train`` or ``predict``; return what it found.

    What nnU-Net prints goes to ``nnunet.log`` in the folder of the row.

    Raises:
        TrainingError: when the stage fails.
    """
    threads, path = int(job["threads"]), folder / LOG_FILE
    environment = foreign_environment(threads) | {"nnUNet_compile": "F", "nnUNet_n_proc_DA": "1"}
    environment |= variables
    if threads:
        environment["nnUNet_def_n_proc"] = str(threads)
    if stage == "train":
        environment |= KEEP_FREED_MEMORY
    words = [python, str(DRIVER), stage]
    with path.open("a", encoding="utf-8", errors="replace") as log:
        code, result = run_driver(words, job, folder, environment, log, listener)
    if code != 0 or not result.is_file():
        raise TrainingError(
            f"nnU-Net: {stage} ended with code {code} ({last_line(path)}); {path} has the whole "
            "story"
        )
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found
