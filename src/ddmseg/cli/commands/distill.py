"""``ddmseg distill``: a student in fewer steps, or a smaller one, resumable at any time."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
    """Teach to the end, the last minute or Ctrl-C; the state is saved in each case.

    Raises:
        DdmsegError: when settings, teacher, data or folder are wrong or training fails.
    """
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.training.distillation.plan import read_plan

    minutes = train.time_limit(arguments.max_minutes)
    settings, teacher = read_plan(arguments.config)
    folder = arguments.output or Path("runs") / settings.name
    _check_folder(folder, resume=arguments.resume)
    keep_freed_memory()

    from ddmseg.datasets.sources import make_source
    from ddmseg.training.distillation.run import WEIGHTS_FILE, distil

    stop = train.StopRequest()
    with stop.listening():
        root = str(arguments.data) if arguments.data else None
        source = make_source(settings.data, root)
        teach = _Teach(minutes, stop)
        last = distil(settings, teacher, source, folder, teach, resume=arguments.resume)
    if last.trainer.rank == 0:
        if last.is_complete:
            from ddmseg.training.calibration import calibrate_weights

            calibrate_weights(folder / WEIGHTS_FILE, source)
        print(_closing_line(last, folder, arguments))
    return train.INTERRUPTED if stop.made else 0


def _check_folder(folder: Path, *, resume: bool) -> None:
    from ddmseg.training.distillation.run import STATE_FILE, TEACHER_FILE

    for kept in (TEACHER_FILE, STATE_FILE):  # the latter may be of a plain training
        train.check_folder(folder, resume=resume, kept=kept)


class _Teach:
    """Runs the trainer of each round; all share the minutes."""

    def __init__(self, minutes: float, stop: train.StopRequest) -> None:
        self._deadline = time.monotonic() + 60 * minutes
        self._stop = stop

    def __call__(self, current: Round) -> None:
        trainer = current.trainer
        if trainer.rank == 0:
            if current.rounds > 1:
                steps = trainer.settings.sampling.steps
                say(f"round {current.number} of {current.rounds}: down to {_of('step', steps)}")
            if current.heavy is not None:
                say(current.heavy)
        left = max(0.0, self._deadline - time.monotonic()) / 60
        train.train_with_progress(trainer, left, self._stop)


def _of(word: str, count: int) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _closing_line(last: Round, folder: Path, arguments: Arguments) -> str:
    from ddmseg.training.distillation.run import WEIGHTS_FILE

    place = f"round {last.number} of {last.rounds}, " if last.rounds > 1 else ""
    best, complete = folder / WEIGHTS_FILE, last.is_complete
    told = train.closing_line("distill", last.trainer, best, arguments, complete=complete)
    return f"{place}{told}"
