"""Teach a student: a training whose folder also has ``teacher.json``, which says who teaches."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from ddmseg.datasets.source import Source
from ddmseg.errors import CheckpointError
from ddmseg.models.checkpoint import Network, replace_file
from ddmseg.models.json_reader import read_json
from ddmseg.models.settings import Settings
from ddmseg.training.distillation.plan import LIGHT, Teacher, check_labels
from ddmseg.training.distillation.soft_labels import SoftLabelObjective
from ddmseg.training.trainer import STATE_FILE, Teaching, Trainer

TEACHER_FILE = "teacher.json"


def student_trainer(
    settings: Settings, teacher: Teacher, source: Source, folder: Path, *, resume: bool = False
) -> Trainer:
    """Return what trains a student, ready to run.

    Args:
        settings: of the student, complete, see :func:`ddmseg.training.distillation.plan`.
        folder: where the run leaves its files.
        resume: continue what is in the folder.

    Raises:
        CheckpointError: when the labels of data and teacher differ, or there is nothing to
            resume, or it was begun with another teacher.
    """
    check_labels(teacher, source)
    if resume:
        _check_teacher(folder, teacher)

    def make_objective(student: Network) -> SoftLabelObjective:
        # A copy on the student's device: the teacher itself stays as it was loaded.
        master = copy.deepcopy(teacher.model).to(next(student.parameters()).device)
        return SoftLabelObjective(student, settings, master, teacher.settings)

    teaching = Teaching(make_objective, teacher.as_dict())
    again = resume and (folder / STATE_FILE).is_file()
    trainer = Trainer(settings, source, folder, resume=again, teaching=teaching)
    if trainer.rank == 0 and not resume:
        text = json.dumps(teacher.as_dict(), indent=2) + "\n"
        replace_file(folder / TEACHER_FILE, text.encode())
    return trainer


def heavy(trainer: Trainer) -> str | None:
    """Return one line where a student is no light one; None where all is well."""
    count = sum(weight.numel() for weight in trainer.model.parameters())
    if count <= LIGHT:
        return None
    return (
        f"the student has {count} parameters, more than the {LIGHT} of the fast tier; "
        "model.widths makes it lighter"
    )


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
