"""What the measuring commands share: their options, the machine, one-line errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from tyro.conf import arg

from ddmseg.errors import DdmsegError
from ddmseg.pipeline.bench.machine import describe_machine as describe_machine
from ddmseg.pipeline.bench.machine import describe_model as describe_model
from ddmseg.pipeline.checkpoint import Card
from ddmseg.pipeline.memory import keep_freed_memory

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every measuring command has."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    output: Annotated[Path, arg(aliases=("-o",))] = Path("results")
    """Folder for the raw figures and their summary."""
    cases: int | None = None
    """Measure only the first so many cases of each set."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


def run_command(options: type[T], run: Callable[[T], None], *, description: str) -> None:
    """Read the options, run, and turn one of our errors into one line and an exit code."""
    import tyro

    chosen = tyro.cli(options, description=description)
    keep_freed_memory()
    try:
        run(chosen)
    except DdmsegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def say(line: str) -> None:
    """Tell how far the run is."""
    print(line, flush=True)


def short_checksum(card: Card) -> str:
    """Return enough of the weights' checksum to tell models apart."""
    return card.checksum[:12]
