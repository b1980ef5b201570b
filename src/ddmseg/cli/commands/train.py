"""``ddmseg train``: a model from a TOML file, resumable at any time."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import OutputError, SettingsError
from ddmseg.messages import say

if TYPE_CHECKING:
    from ddmseg.cli.progress import Bar
    from ddmseg.datasets.source import Source
    from ddmseg.training.trainer import Progress, Trainer

INTERRUPTED = 128 + signal.SIGINT
_STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a model as a TOML file says; with torchrun on several GPUs."""

    config: Annotated[Positional[Path], arg(metavar="CONFIG", help_behavior_hint="")]
    """Settings, such as configs/hippocampus.toml."""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="FOLDER", help_behavior_hint="(runs/NAME)")
    ] = None
    """Where the run leaves its state, curve and weights."""
    resume: bool = False
    """Go on where the run in that folder stopped."""
    max_minutes: Annotated[float | None, arg(metavar="N", help_behavior_hint="(no limit)")] = None
    """Save the state and stop after so many minutes."""
    data: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(the variable DDMSEG_DATA)")
    ] = None
    """Folder that holds the data sets, one subfolder each."""
    debug: bool = False
    """Show where an unexpected error came from."""


class StopRequest:
    """Whether the user pressed Ctrl-C or the system asked the process to end."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        """Say whether to stop after this step."""
        return self.made

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals while the body runs: the first asks, the second stops at once."""

        def take(number: int, frame: FrameType | None) -> None:
            if self.made:
                raise KeyboardInterrupt
            self.made = True
            print("stopping after this step; once more stops at once", file=sys.stderr)

        before = {number: signal.signal(number, take) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(arguments: Arguments) -> int:
    """Train to the end, the last minute or Ctrl-C; the state is saved in each case."""
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.models.card import require_one_pass
    from ddmseg.models.settings import read_settings

    minutes = time_limit(arguments.max_minutes)
    settings = read_settings(arguments.config)
    if settings.model.diffusion:
        require_one_pass(settings.data.kind, settings.model.encoder_form)
    folder = arguments.output or Path("runs") / settings.name
    check_folder(folder, resume=arguments.resume)
    keep_freed_memory()

    from ddmseg.datasets.sources import make_source
    from ddmseg.training.trainer import Trainer

    stop = StopRequest()
    with stop.listening():
        source = make_source(
            settings.data,
            str(arguments.data) if arguments.data else None,
            tell=lambda line: say(f"warning: {line}"),
        )
        trainer = Trainer(settings, source, folder, resume=arguments.resume)
        best = train_with_progress(trainer, minutes, stop)
    finish("train", trainer, best, source, arguments)
    return INTERRUPTED if stop.made else 0


def time_limit(max_minutes: float | None) -> float:
    """Return the minutes to train for at most, infinity without an option."""
    if max_minutes is None:
        return math.inf
    if not max_minutes > 0:
        raise SettingsError(f"max-minutes: got {max_minutes:g}; it must be above 0")
    return max_minutes


def check_folder(folder: Path, *, resume: bool, kept: str = "state.safetensors") -> None:
    """Refuse to overwrite an earlier run, which ``kept`` in its folder gives away."""
    state = folder / kept
    if state.exists() and not resume:
        raise OutputError(
            f"{state} exists already; pass --resume to go on with that run, or name another "
            "folder with -o"
        )


def train_with_progress(trainer: Trainer, minutes: float, stop: StopRequest) -> Path:
    """Train under a progress bar to the end, the last minute or a request to stop.

    Returns where the best weights lie, once there has been a validation.
    """
    from ddmseg.cli.progress import progress_bar

    if trainer.rank != 0:  # one process speaks for all
        return trainer.run(max_minutes=minutes, should_stop=stop)
    steps = trainer.settings.training.steps
    with progress_bar(steps, start=trainer.step, first_text="reading the data") as bar:
        try:
            return trainer.run(max_minutes=minutes, report=_Reporter(bar), should_stop=stop)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot write {trainer.folder}: {reason}; mend that and go on with --resume"
            ) from error


class _Reporter:
    """Shows step, smoothed loss and the last sampled Dice."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._loss: float | None = None
        self._dice: float | None = None

    def __call__(self, now: Progress) -> None:
        self._loss = now.loss if self._loss is None else 0.95 * self._loss + 0.05 * now.loss
        if now.sampled_dice is not None:
            self._dice = now.sampled_dice
        dice = "" if self._dice is None else f", sampled Dice {self._dice:.3f}"
        self._bar.update(now.step, f"step {now.step} of {now.steps}, loss {self._loss:.3f}{dice}")


def finish(
    command: str, trainer: Trainer, best: Path, source: Source, arguments: Arguments
) -> None:
    """Calibrate weights that are done; print what was reached, where they are, how to go on."""
    if trainer.rank != 0:
        return
    if trainer.is_done and best.is_file():
        from ddmseg.training.calibration import calibrate_weights

        calibrate_weights(best, source)
    line = f"step {trainer.step} of {trainer.settings.training.steps}"
    if best.is_file():
        line += f"; best weights (validation score {trainer.best:.3f}): {best}"
    if not trainer.is_done:
        words = ["ddmseg", command, os.fspath(arguments.config), "--resume"]
        words += ["-o", os.fspath(arguments.output)] if arguments.output else []
        words += ["--data", os.fspath(arguments.data)] if arguments.data else []
        line += f"; go on with: {shlex.join(words)}"
    print(line)
