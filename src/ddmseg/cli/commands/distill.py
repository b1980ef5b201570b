"""``ddmseg distill``: a smaller student of a trained model, resumable at any time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddmseg.cli.commands import train
from ddmseg.messages import say


@dataclass(frozen=True, kw_only=True)
class Arguments(train.Arguments):
    """Teach a light network its teacher's soft labels, as a TOML file says."""

    config: Annotated[Positional[Path], arg(metavar="CONFIG", help_behavior_hint="")]
    """Settings, such as configs/distill/hippocampus_light.toml."""


def run(arguments: Arguments) -> int:
    """Teach to the end, the last minute or Ctrl-C; the state is saved in each case."""
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.training.distillation.plan import read_plan

    minutes = train.time_limit(arguments.max_minutes)
    settings, teacher = read_plan(arguments.config)
    folder = arguments.output or Path("runs") / settings.name
    from ddmseg.training.distillation.run import TEACHER_FILE, heavy, student_trainer
    from ddmseg.training.trainer import STATE_FILE

    for kept in (TEACHER_FILE, STATE_FILE):  # the latter may be of a plain training
        train.check_folder(folder, resume=arguments.resume, kept=kept)
    keep_freed_memory()

    from ddmseg.datasets.sources import make_source

    stop = train.StopRequest()
    with stop.listening():
        root = str(arguments.data) if arguments.data else None
        source = make_source(settings.data, root)
        trainer = student_trainer(settings, teacher, source, folder, resume=arguments.resume)
        warning = heavy(trainer)
        if trainer.rank == 0 and warning is not None:
            say(warning)
        best = train.train_with_progress(trainer, minutes, stop)
    train.finish("distill", trainer, best, source, arguments)
    return train.INTERRUPTED if stop.made else 0
