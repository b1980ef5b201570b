"""Train and test one row of a table in one fold, resumable at any time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ddmseg.pipeline.checkpoint import load_state, replace_file
from ddmseg.pipeline.config import Settings
from ddmseg.pipeline.experiments.plan import TABLE_FILE, Plan
from ddmseg.pipeline.experiments.record import (
    Record,
    commit,
    read_record,
    versions,
    write_record,
)
from ddmseg.pipeline.experiments.scoring import score_apart
from ddmseg.pipeline.settings_reader import settings_to_dict
from ddmseg.pipeline.sources import labelled_source
from ddmseg.pipeline.training import Progress, Trainer

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Places:
    """Where a table reads and writes.

    Attributes:
        results: records are kept here, small text files; ``results / row / fold``.
        work: states and weights, large; ``work / row / fold``.
        data: folder of the data sets, None for the environment's.
    """

    results: Path
    work: Path
    data: str | None


class Unfinished(Exception):
    """The time was over before a row was trained; its state is saved."""


def keep_table(plan: Plan, places: Places) -> None:
    """Put the table's own settings beside its records: the page is made of results alone."""
    replace_file(places.results / TABLE_FILE, (plan.folder / TABLE_FILE).read_bytes())


def is_done(plan: Plan, row: str, fold: str, places: Places) -> bool:
    """Say whether a row has been run with the settings that it has now.

    Raises:
        UsageError: when its files are damaged.
    """
    found = read_record(places.results / row / fold)
    return found is not None and found[0].settings == _plain(plan.settings(row, fold))


def run_row(
    plan: Plan,
    row: str,
    fold: str,
    places: Places,
    *,
    max_minutes: float = math.inf,
    report: Report | None = None,
) -> Record:
    """Train what the row needs and has not, predict and score its test subjects.

    Raises:
        Unfinished: when the minutes end before the training.
        TrainingError: when the training goes wrong.
        CheckpointError: when a state in the way is of other settings.
    """
    deadline = time.monotonic() + 60 * max_minutes
    settings = plan.settings(row, fold)
    members = settings.row.members or (plan.trained_row(row),)
    runs = []
    for member in members:
        left = (deadline - time.monotonic()) / 60
        runs.append(_trained(plan, member, fold, places, left, report))
    # Members answer by their own settings; borrowed weights by the borrower's.
    answering = [plan.settings(m, fold) if settings.row.members else settings for m in members]
    result = score_apart(
        [run.weights for run in runs],
        [json.dumps(settings_to_dict(one)) for one in answering],
        places.data,
        settings.training.threads,
    )
    own = runs[0] if members == (row,) else None
    record = Record(
        table=plan.name,
        row=row,
        fold=fold,
        settings=_plain(settings),
        split=labelled_source(settings.data, places.data).split(),
        versions=versions(),
        commit=commit(),
        threads=settings.training.threads or torch.get_num_threads(),
        parameters=result.parameters,
        trained_steps=own.best_step if own else 0,
        samples_seen=own.steps * settings.training.batch if own else 0,
        validation_dice=own.best if own else None,
        train_seconds=round(sum(run.seconds for run in runs), 1),
        seconds_a_scan=round(result.seconds_a_scan, 4),
        peak_memory_mb=result.peak_memory_mb,
    )
    curve = own.weights.with_name("curve.csv") if own else None
    write_record(places.results / row / fold, record, result.scores, curve)
    return record


@dataclass(frozen=True)
class _Run:
    """A finished training."""

    weights: Path
    best: float
    best_step: int
    steps: int
    seconds: float


def _trained(
    plan: Plan, row: str, fold: str, places: Places, minutes: float, report: Report | None
) -> _Run:
    """Return a row's finished training, after doing what is left of it."""
    settings = plan.settings(row, fold)
    folder = places.work / row / fold
    state = folder / "state.safetensors"
    resumable = state.is_file() and _same_training(folder / "settings.json", settings)
    if not (resumable and _finished(state, settings)):
        source = labelled_source(settings.data, places.data)
        trainer = Trainer(settings, source, folder, resume=resumable)
        trainer.run(max_minutes=max(minutes, 0), report=report)
        if trainer.step < settings.training.steps:
            raise Unfinished(f"{row}, {fold}: step {trainer.step} of {settings.training.steps}")
    _, numbers = load_state(state)
    card = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    return _Run(
        folder / "best.safetensors",
        float(numbers["best"]),
        int(card["trained_steps"]),
        int(numbers["step"]),
        float(numbers["seconds"]),
    )


def _finished(state: Path, settings: Settings) -> bool:
    return int(load_state(state)[1]["step"]) >= settings.training.steps


def _same_training(path: Path, settings: Settings) -> bool:
    """Say whether the run in a folder was begun with these settings, titles apart."""
    if not path.is_file():
        return False
    there = json.loads(path.read_text(encoding="utf-8"))
    return {**there, "row": None} == {**_plain(settings), "row": None}


def _plain(settings: Settings) -> dict[str, object]:
    """Return settings as JSON gives them back: lists for tuples."""
    plain: dict[str, object] = json.loads(json.dumps(settings_to_dict(settings)))
    return plain
