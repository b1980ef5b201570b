"""What one run of ``ddmseg segment`` costs: in this process after loading, or in a fresh one."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from ddmseg.inference.segmenter import Segmenter
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Segmentation
from ddmseg_lab.provenance import measured_with
from ddmseg_lab.speed import process

T = TypeVar("T")
Costs = dict[str, float]
"""Figures of one run by name, such as ``seconds``."""
PROGRAM = (sys.executable, "-m", "ddmseg")


@dataclass(frozen=True)
class Runner:
    """Segments scans with one model on one device.

    Attributes:
        model: name of a shipped model, or path of its weights.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: of the processor, for processes of their own; None is torch's choice.
    """

    model: str
    device: str = "cpu"
    threads: int | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The model, loaded once."""
        return load(self.model, self.device)

    @property
    def identity(self) -> str:
        """What rows belong to: the weights, and a hash of device, machine and version."""
        return measured_with(self.segmenter.card, self.device)

    def once(self, path: Path, options: Mapping[str, Any]) -> tuple[Costs, Segmentation]:
        """Segment a scan here; return what it cost, and the result.

        ``seconds`` on the wall and ``processor_seconds`` of all threads are from reading the scan
        to the last file written; those of each stage have its name, such as ``encode_seconds``.
        """
        costs, result = timed(lambda: self.segmenter(path, **options))
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            writing, _ = timed(lambda: write_outputs(result, Path(folder), stem="scan"))
        stages = {**result.receipt["seconds"], "write": writing["seconds"]}
        total = {name: costs[name] + writing[name] for name in costs}
        return {**total, **{f"{name}_seconds": s for name, s in stages.items()}}, result

    def fresh(self, paths: Sequence[Path], options: Mapping[str, Any]) -> Costs:
        """Segment scans in a process of its own, start-up and loading included, without a cache.

        Beside the costs of :func:`ddmseg_lab.speed.process.measure_command`, ``estimated_gb`` is
        the peak that was expected, of one scan; NaN where no receipt says it.
        """
        asked = {"model": self.model, "device": self.device, "threads": self.threads, **options}
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            words = ["segment", *map(str, paths), "-o", folder, "--no-cache", *option_words(asked)]
            costs = process.measure_command([*PROGRAM, *words])
            receipts = [json.loads(p.read_text()) for p in Path(folder).glob("*_receipt.json")]
        estimates = [float(one["memory"]["estimated_gb"]) for one in receipts]
        return {**costs, "estimated_gb": max(estimates, default=math.nan)}


@cache
def load(model: str, device: str) -> Segmenter:
    """Load a model once."""
    return Segmenter.load(model, device=device)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of the command line; True is a switch, None is left out.

    >>> option_words({"steps": 2, "raw": True, "threads": None})
    ['--steps=2', '--raw']
    """
    given = {name: value for name, value in options.items() if value is not None}
    return [f"--{n}" if value is True else f"--{n}={value}" for n, value in given.items()]


def timed(work: Callable[[], T]) -> tuple[Costs, T]:
    """Do something; return its seconds on the wall and of the processor, and its result."""
    _wait()
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    _wait()
    seconds = time.perf_counter() - wall
    return {"seconds": seconds, "processor_seconds": time.process_time() - processor}, result


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
