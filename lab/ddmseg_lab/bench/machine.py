"""What timings depend on, without names of hosts, users or folders."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

from ddmseg import __version__
from ddmseg.models.checkpoint import Card


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


def describe_model(card: Card) -> dict[str, Any]:
    """Return what names the weights that were measured."""
    return {
        "name": card.name,
        "weights": card.checksum[:12],
        "trained_steps": card.trained_steps,
        "batch": card.settings["training"]["batch"],
    }


def measured_with(card: Card, device: str) -> str:
    """Return what timings belong to: the weights, and a hash of device, machine and version.

    Rows with another such word are of other weights, or came about elsewhere or with
    another number of threads, and must not be averaged with these.
    """
    place = (__version__, device, sorted(describe_machine().items()))
    return f"{card.checksum[:12]}-{hashlib.sha256(repr(place).encode()).hexdigest()[:8]}"


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
