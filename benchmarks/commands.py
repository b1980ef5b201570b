"""What the measuring commands share: their options, the machine, one-line errors."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import arg

from ddmseg.errors import DdmsegError
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


def describe_model(card: Card) -> dict[str, Any]:
    """Return what names the weights that were measured."""
    return {
        "name": card.name,
        "weights": short_checksum(card),
        "trained_steps": card.trained_steps,
        "batch": card.settings["training"]["batch"],
    }


def describe_machine() -> dict[str, Any]:
    """Return processor, threads and versions: what timings depend on, and no names."""
    import torch

    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
