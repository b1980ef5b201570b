"""What the measuring commands share: their options, the data, the machine, one-line errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ddmseg.datasets.case import DATA_VARIABLE
from ddmseg.errors import DdmsegError
from ddmseg.inference.memory.allocator import keep_freed_memory
from ddmseg.inference.options import SegmentOptions
from ddmseg.models.checkpoint import Card
from ddmseg_lab.bench.machine import describe_machine as describe_machine
from ddmseg_lab.bench.machine import describe_model as describe_model
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.provenance import commit

T = TypeVar("T")

SAMPLING_SEED = SegmentOptions.seed
"""Of the noise of samples, where a command does not choose another."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every measuring command has."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    output: Output = RESULTS
    """Folder for the raw figures and their summary."""
    cases: int | None = None
    """Measure only the first so many cases of each set."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


def run_command(options: type[T], run: Callable[[T], None], *, description: str) -> None:
    """Read the options, run, and turn one of our errors into one line and an exit code."""
    import tyro

    chosen = tyro.cli(options, description=description)
    commit()  # of the code as it was loaded, whatever is committed meanwhile
    keep_freed_memory()
    try:
        run(chosen)
    except DdmsegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def data_at_hand(data: str | None) -> str | None:
    """Return the folder of the data sets: the one named, else what DDMSEG_DATA says, else None.

    For commands that also measure what comes with the package, and can do without the rest.
    """
    return data or os.environ.get(DATA_VARIABLE) or None


def say(line: str) -> None:
    """Tell how far the run is."""
    print(line, flush=True)


def short_checksum(card: Card) -> str:
    """Return enough of the weights' checksum to tell models apart."""
    return card.checksum[:12]
