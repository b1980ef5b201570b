"""Milliseconds to synthesise a training patch, beside those of a training step.

    python -m ddmseg_lab.speed.synthesis --data DATA

Synthesis must not starve training: with one thread that draws ahead it is free as long
as a batch is drawn in less time than a step takes. Writes
``results/speed_synthesis.json``.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ddmseg.datasets.source import Source
from ddmseg.datasets.sources import make_source
from ddmseg.models.settings import Settings, read_settings
from ddmseg.training.batches import batches
from ddmseg.training.trainer import Trainer
from ddmseg_lab.folders import RECIPES, RESULTS, Output
from ddmseg_lab.page import Chapter, Claim, Summary, Target, machine_words, table, with_interval
from ddmseg_lab.statistics_text import median_range
from ddmseg_lab.study import describe_machine, run_command, say
from ddmseg_lab.table import write_summary

WARM_UP = 3
"""First steps that do not count: they reserve memory and choose kernels."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    output: Output = RESULTS
    """Folder for the figures."""
    config: Path = RECIPES / "anatomy_fast.toml"
    """Settings of the training."""
    steps: int = 10
    """Steps to time, at least 1."""
    threads: int | None = None
    """CPU threads (torch's choice when left out)."""


def time_drawing(settings: Settings, source: Source, steps: int) -> list[float]:
    """Draw so many batches; return the seconds of each example, the mean of its batch."""
    seed, batch = settings.training.seed, settings.training.batch
    drawing = batches(
        source, seed=seed, batch=batch, start=0, stop=steps, rank=0, ranks=1, workers=0
    )
    stamps = [time.perf_counter(), *(time.perf_counter() for _ in drawing)]
    return [(after - before) / batch for before, after in pairwise(stamps)]


def time_training(settings: Settings, source: Source, steps: int) -> list[float]:
    """Train a little, drawing when asked; return the seconds of each step with its drawing."""
    loop = replace(
        settings.training, steps=steps + WARM_UP + 1, validate_every=steps + WARM_UP + 2,
        validation_cases=1, workers=0, device="cpu",
    )  # fmt: skip
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(settings, training=loop), source, Path(folder))
        trainer.run(
            report=lambda progress: stamps.append(time.perf_counter()),
            should_stop=lambda: len(stamps) >= steps + WARM_UP,
        )
    return [after - before for before, after in pairwise(stamps)][WARM_UP - 1 :]


def summarise(patches: list[float], steps: list[float], batch: int) -> dict[str, Any]:
    """Return medians, and the share of a step that drawing its batch takes.

    ``steps`` are with their drawing, which is taken off as what it usually is.
    """
    patch = median_range(patches)
    drawn = batch * patch["median"]
    step = median_range([seconds - drawn for seconds in steps])
    return {
        "patch_seconds": patch,
        "step_seconds": step,
        "batch": batch,
        "batch_over_step": drawn / step["median"],
    }


def run(arguments: Arguments) -> None:
    """Measure."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    settings = read_settings(arguments.config)
    source = make_source(settings.data, arguments.data)
    patches = time_drawing(settings, source, arguments.steps + WARM_UP)[WARM_UP:]
    steps = time_training(settings, source, arguments.steps)
    figures = summarise(patches, steps, settings.training.batch)
    patch, step = (1000 * figures[f"{name}_seconds"]["median"] for name in ("patch", "step"))
    say(f"patch {patch:.0f} ms, step {step:.0f} ms")
    summary = {
        "machine": describe_machine(),
        "config": arguments.config.stem,
        "patch": list(settings.data.patch),
        "spacing_mm": settings.data.spacing_mm,
        **figures,
    }
    write_summary(arguments.output / "speed_synthesis.json", summary, seed=settings.training.seed)


def body(found: Summary) -> list[str]:
    """Whether synthesis keeps up with training."""
    patch = "×".join(map(str, found["patch"])) + f" at {found['spacing_mm']:g} mm"
    times = [_milliseconds(found[name]) for name in ("patch_seconds", "step_seconds")]
    header = ["patch", "ms a synthetic patch", "patches a step", "ms a training step"]
    row = [patch, times[0], str(found["batch"]), times[1]]
    return [f"{machine_words(found)} Median (and range).", table(header, [row])]


def claims(found: Summary) -> list[Claim]:
    """A batch is drawn in less time than a step takes."""
    target = Target("drawing a batch over a training step", 1.0, at_least=False)
    return [Claim(target, found.get("batch_over_step"))]


def _milliseconds(seconds: Summary) -> str:
    scaled = {key: 1000 * seconds[key] for key in ("median", "low", "high")}
    return with_interval(scaled, 0)


COMMAND = "python -m ddmseg_lab.speed.synthesis --data DATA --threads 2"
CHAPTER = Chapter("Synthesis", COMMAND, "speed_synthesis", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
