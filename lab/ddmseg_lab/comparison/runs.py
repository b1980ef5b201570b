"""Trainings that rows need: gone on with, or found where another row made the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddmseg.errors import SettingsError
from ddmseg.models.checkpoint import load_state
from ddmseg.models.settings import RowSettings, Settings
from ddmseg.models.settings.retired import without_retired
from ddmseg.models.settings_reader import settings_from_dict, settings_to_dict
from ddmseg.training.trainer import Progress, Trainer, is_finished
from ddmseg_lab.comparison.inter_intra import row_source

Report = Callable[[Progress], None]
STATE_FILE = "state.safetensors"
SETTINGS_FILE = "settings.json"


class Unfinished(Exception):
    """The time was over before a row was trained; its state is saved."""


@dataclass(frozen=True)
class Run:
    """A finished training: its best weights, the score and steps that chose them, its seconds.

    Seconds are of work, see :func:`ddmseg.models.device.working_seconds`.
    """

    weights: Path
    best: float
    best_step: int
    steps: int
    seconds: float


def trained_run(
    settings: Settings, folder: Path, others: Path, data: str | None, *, max_minutes: float,
    report: Report | None = None,
) -> Run:  # fmt: skip
    """Return a finished training, after doing what is left of it.

    Args:
        others: folder whose runs, at any depth, are used instead when one of them is
            finished and had the same settings: a training repeats itself exactly.
        data: folder of the data sets, None for the environment's.
    """
    resumable = _same_training(folder, settings)
    if not (resumable and is_finished(folder, settings)):
        for path in sorted(others.glob(f"**/{SETTINGS_FILE}")):
            if _same_training(path.parent, settings) and is_finished(path.parent, settings):
                return _read_run(path.parent)
        source = row_source(settings.data, data, run_folder=folder, training=True)
        trainer = Trainer(settings, source, folder, resume=resumable)
        trainer.run(max_minutes=max(max_minutes, 0), report=report)
        if not trainer.is_done:
            raise Unfinished(f"{folder}: step {trainer.step} of {settings.training.steps}")
    return _read_run(folder)


def reads_as(plain: dict[str, Any], settings: Settings) -> bool:
    """Say whether stored settings mean these: one that is new since has its default."""
    try:
        return settings_from_dict(Settings, without_retired(plain)) == settings
    except SettingsError:
        return False


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON gives them back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(settings_to_dict(settings)))
    return plain


def _same_training(folder: Path, settings: Settings) -> bool:
    """Say whether the run in a folder was begun with these settings, names apart."""
    path = folder / SETTINGS_FILE
    if not (path.is_file() and (folder / STATE_FILE).is_file()):
        return False
    there = json.loads(path.read_text(encoding="utf-8"))
    nameless = replace(settings, name="", row=RowSettings())
    return reads_as({**there, "name": "", "row": {}}, nameless)


def _read_run(folder: Path) -> Run:
    _, numbers = load_state(folder / STATE_FILE)
    best, steps, seconds = float(numbers["best"]), int(numbers["step"]), float(numbers["seconds"])
    card = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    return Run(folder / "best.safetensors", best, int(card["trained_steps"]), steps, seconds)
