"""``ddmseg distill``: a student in fewer steps, or a smaller one, resumable at any time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.cli.commands import train
from ddmseg.messages import say

if TYPE_CHECKING:
    from ddmseg.training.distillation.run import Round


@dataclass(frozen=True, kw_only=True)
class Arguments(train.Arguments):
    """Teach a student as a TOML file says: its teacher's answer in one step, or a light network."""

    config: Annotated[Positional[Path], arg(metavar="CONFIG", help_behavior_hint="")]
    """Settings, such as configs/distill/hippocampus_light.toml."""


def run(arguments: Arguments) -> int:
    """Teach to the end, the last minute or Ctrl-C; the state is saved in each case."""
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.training.distillation.plan import read_plan

    minutes = train.time_limit(arguments.max_minutes)
    settings, teacher = read_plan(arguments.config)
    folder = arguments.output or Path("runs") / settings.name
    from ddmseg.training.distillation.run import TEACHER_FILE, WEIGHTS_FILE, distil
    from ddmseg.training.trainer import STATE_FILE

    for kept in (TEACHER_FILE, STATE_FILE):  # the latter may be of a plain training
        train.check_folder(folder, resume=arguments.resume, kept=kept)
    keep_freed_memory()

    from ddmseg.datasets.sources import make_source

    stop = train.StopRequest()
    with stop.listening():
        root = str(arguments.data) if arguments.data else None
        source = make_source(settings.data, root)
        teach = partial(_teach, time.monotonic() + 60 * minutes, stop)
        last = distil(settings, teacher, source, folder, teach, resume=arguments.resume)
    if last.trainer.rank == 0:
        best, complete = folder / WEIGHTS_FILE, last.is_complete
        if complete:
            from ddmseg.training.calibration import calibrate_weights

            calibrate_weights(best, source)
        place = f"round {last.number} of {last.rounds}, " if last.rounds > 1 else ""
        told = train.closing_line("distill", last.trainer, best, arguments, complete=complete)
        print(f"{place}{told}")
    return train.INTERRUPTED if stop.made else 0


def _teach(deadline: float, stop: train.StopRequest, current: Round) -> None:
    """Run the trainer of a round; all rounds share the minutes."""
    trainer = current.trainer
    if trainer.rank == 0:
        if current.rounds > 1:
            steps = trainer.settings.sampling.steps
            down = f"{steps} step{'s' * (steps != 1)}"
            say(f"round {current.number} of {current.rounds}: down to {down}")
        if current.heavy is not None:
            say(current.heavy)
    left = max(0.0, deadline - time.monotonic()) / 60
    train.train_with_progress(trainer, left, stop)
