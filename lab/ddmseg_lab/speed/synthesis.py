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
from torch import Generator

from ddmseg.datasets.source import Source
from ddmseg.datasets.sources import make_source
from ddmseg.datasets.subject import Example
from ddmseg.models.settings import Settings, read_settings
from ddmseg.training.trainer import Progress, Trainer
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.folders import RECIPES, RESULTS, Output
from ddmseg_lab.page import Chapter, Claim, Summary, Target, machine_words, table, with_interval
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


class TimedSource:
    """Draws what another source does and remembers how long each example took."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.labels = source.labels
        self.always_present = source.always_present
        self.data, self.licence = source.data, source.licence
        self.seconds: list[float] = []

    def training_example(self, generator: Generator) -> Example:
        """Draw one example."""
        start = time.perf_counter()
        example = self._source.training_example(generator)
        self.seconds.append(time.perf_counter() - start)
        return example

    def validation_examples(self, count: int) -> list[Example]:
        """Return the source's own."""
        return self._source.validation_examples(count)


def short_run(settings: Settings, steps: int) -> Settings:
    """Return settings of a run that ends before it validates and draws when asked."""
    loop = replace(
        settings.training, steps=steps + WARM_UP + 1, validate_every=steps + WARM_UP + 2,
        validation_cases=1, workers=0, device="cpu",
    )  # fmt: skip
    return replace(settings, training=loop)


def time_training(settings: Settings, source: TimedSource, steps: int) -> list[float]:
    """Train a little; return the seconds of each step without its drawing."""
    stamps: list[float] = []
    drawn: list[float] = []

    def note(progress: Progress) -> None:
        stamps.append(time.perf_counter())
        drawn.append(sum(source.seconds))

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(short_run(settings, steps), source, Path(folder))
        trainer.run(report=note, should_stop=lambda: len(stamps) >= steps + WARM_UP)
    whole = [after - before for before, after in pairwise(stamps)]
    drawing = [after - before for before, after in pairwise(drawn)]
    steps_only = [a - b for a, b in zip(whole, drawing, strict=True)]
    return steps_only[WARM_UP - 1 :]


def summarise(patches: list[float], steps: list[float], batch: int) -> dict[str, Any]:
    """Return medians, and the share of a step that drawing its batch takes."""
    patch, step = median_range(patches), median_range(steps)
    return {
        "patch_seconds": patch,
        "step_seconds": step,
        "batch": batch,
        "batch_over_step": batch * patch["median"] / step["median"],
    }


def run(arguments: Arguments) -> None:
    """Measure."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    settings = read_settings(arguments.config)
    source = TimedSource(make_source(settings.data, arguments.data))
    steps = time_training(settings, source, arguments.steps)
    patches = source.seconds[WARM_UP * settings.training.batch :]
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
