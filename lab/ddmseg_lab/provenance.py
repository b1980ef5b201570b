"""What made a record, in the same words in each: code, seed, weights, and the machine.

Nothing here names a host, a user or a folder of one.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ddmseg import __version__
from ddmseg.models.checkpoint import Card

PACKAGES = ("torch", "monai", "numpy", "scipy")
WRITTEN = ("lab/results", "lab/docs", "docs")
"""Folders that the measuring commands write to themselves: no change of the code."""


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Return commit, versions and seed (None where each subject has its own) of a record."""
    found = versions()
    named = {name: found[name] for name in ("ddmseg", "torch", "python")}
    return {"commit": commit(), **named, "seed": seed}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version(), "ddmseg": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


@cache
def commit() -> str:
    """Return the commit of the code that runs, as it was when first asked."""
    return commit_of(Path(__file__).parent)


def commit_of(folder: Path) -> str:
    """Return a checkout's commit, ``+`` behind it when code was changed since; else ``unknown``."""

    def git(*words: str) -> str:
        call = ["git", *words]
        done = subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        others = [f":(exclude,top){folder}" for folder in WRITTEN]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *others)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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
    """Return what timings belong to: the weights, and a hash of device, machine and version."""
    place = (__version__, device, sorted(describe_machine().items()))
    return f"{card.checksum[:12]}-{hashlib.sha256(repr(place).encode()).hexdigest()[:8]}"


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
