"""Teach a student: one training, or for progressive distillation a chain of them.

The folder holds what a training leaves there and ``teacher.json``, which says who teaches.
In progressive distillation each student has a folder of its own below (``4-steps``,
``2-steps``, ``1-step``) and teaches the next; the last one's weights are copied up.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from ddmseg.datasets.source import Source
from ddmseg.errors import CheckpointError
from ddmseg.maths.distillation import halvings
from ddmseg.models.checkpoint import Network, copy_weights, replace_file
from ddmseg.models.json_reader import read_json
from ddmseg.models.settings import Settings
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.distillation.plan import LIGHT, Teacher, check_labels
from ddmseg.training.distillation.soft_labels import SoftLabelObjective
from ddmseg.training.distillation.steps import ConsistencyObjective, ProgressiveObjective
from ddmseg.training.objective import LossFunction
from ddmseg.training.trainer import STATE_FILE, Teaching, Trainer, is_finished

TEACHER_FILE = "teacher.json"
WEIGHTS_FILE = "best.safetensors"


@dataclass(frozen=True)
class Round:
    """One training of a distillation, from 1 to ``rounds``, ready to run."""

    number: int
    rounds: int
    trainer: Trainer

    @property
    def is_done(self) -> bool:
        """Whether the last step has been taken."""
        return self.trainer.is_done

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left of the whole distillation."""
        return self.is_done and self.number == self.rounds

    @property
    def heavy(self) -> str | None:
        """One line where a light student is no light one; None where all is well."""
        count = sum(weight.numel() for weight in self.trainer.model.parameters())
        if self.trainer.settings.distillation.of_steps or count <= LIGHT:
            return None
        return (
            f"the student has {count} parameters, more than the {LIGHT} of the fast tier; "
            "model.widths makes it lighter"
        )


def distil(
    settings: Settings,
    teacher: Teacher,
    source: Source,
    folder: Path,
    train: Callable[[Round], None],
    *,
    resume: bool = False,
) -> Round:
    """Teach a student in one round or several.

    Args:
        settings: of the student, complete, see :func:`ddmseg.training.distillation.plan`.
        folder: where the run leaves its files; with all rounds done, ``best.safetensors``.
        train: runs the trainer of a round; it may stop early.
        resume: continue what is in the folder.

    Returns:
        The last round that was begun.

    Raises:
        CheckpointError: when the labels of data and teacher differ, or there is nothing to
            resume, or it was begun with another teacher.
        TrainingError: when a training goes wrong.
    """
    check_labels(teacher, source)
    if resume:
        _check_teacher(folder, teacher)
    plans = _rounds(settings, folder)
    master = teacher
    for number, (own, place) in enumerate(plans, 1):
        last = number == len(plans)
        if last or not (resume and _is_finished(place, own)):
            teaching = Teaching(_objective(own, master), teacher.as_dict())
            again = resume and (place / STATE_FILE).is_file()
            trainer = Trainer(own, source, place, resume=again, teaching=teaching)
            if trainer.rank == 0 and not resume and number == 1:
                text = json.dumps(teacher.as_dict(), indent=2) + "\n"
                replace_file(folder / TEACHER_FILE, text.encode())
            current = Round(number, len(plans), trainer)
            train(current)
            if not current.is_done:
                return current
            if trainer.ranks > 1:  # every process is to find the weights that the first one wrote
                torch.distributed.barrier()
        if not last:
            master = Teacher.load(str(place / WEIGHTS_FILE))
    if trainer.rank == 0 and place != folder:
        copy_weights(place / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    return current


def _rounds(settings: Settings, folder: Path) -> list[tuple[Settings, Path]]:
    """Return settings and folder of each training, in order."""
    asked = settings.distillation
    if asked.method != "progressive":
        return [(settings, folder)]
    found: list[tuple[Settings, Path]] = []
    training = settings.training
    for steps in halvings(asked.teacher_steps, settings.sampling.steps):
        sampling = replace(settings.sampling, steps=steps)
        place = folder / (f"{steps}-steps" if steps > 1 else "1-step")
        found.append((replace(settings, sampling=sampling, training=training), place))
        training = replace(training, start_from=str(place / WEIGHTS_FILE))
    return found


def _objective(settings: Settings, teacher: Teacher) -> Callable[[Network, Network], LossFunction]:
    """Return what makes the objective of a student once there is one."""

    def make(student: Network, average: Network) -> LossFunction:
        # A copy on the student's device: the teacher itself stays as it was loaded.
        device = next(student.parameters()).device
        master = copy.deepcopy(teacher.model).to(device)
        if not settings.distillation.of_steps:
            return SoftLabelObjective(student, settings, master, teacher.settings)
        own = cast(DiscrepancyDiffusionSegmenter, student)  # it has its teacher's network
        if settings.distillation.method == "progressive":
            return ProgressiveObjective(own, master, settings)
        mean = cast(DiscrepancyDiffusionSegmenter, average)
        return ConsistencyObjective(own, mean, master, settings)

    return make


def _is_finished(place: Path, settings: Settings) -> bool:
    there = all((place / name).is_file() for name in (STATE_FILE, WEIGHTS_FILE))
    return there and is_finished(place, settings)


def _check_teacher(folder: Path, teacher: Teacher) -> None:
    """Refuse to go on where nothing was begun, or under another teacher."""
    path = folder / TEACHER_FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: no distillation to resume; start without --resume")
    try:
        there = read_json(path)["checksum"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read; start anew in another folder with -o"
        ) from error
    if there != teacher.card.checksum:
        raise CheckpointError(
            f"{path}: was begun with other weights of a teacher ({str(there)[:12]}) than "
            f"{teacher.card.name} has ({teacher.card.checksum[:12]}); name those, or start anew "
            "in another folder with -o"
        )
