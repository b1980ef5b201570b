"""Whole distillations: they teach, resume to the bit, and leave the teacher as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddmseg.errors import CheckpointError, UsageError
from ddmseg.models.checkpoint import load_state, load_weights, save_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.training.distillation import run
from ddmseg.training.distillation.plan import Teacher
from ddmseg.training.distillation.run import heavy, student_trainer
from ddmseg.training.trainer import Trainer
from toys import BoxSource, fingerprint

SAMPLED = "teacher_samples = 1\ntemperature = 2.0\ntruth_share = 0.5"


def stop_after(trainer: Trainer, steps: int) -> None:
    """Train until so many steps are taken."""
    trainer.run(should_stop=lambda: trainer.step >= steps)


def state(folder: Path) -> tuple[dict[str, bytes], int]:
    """Everything that is kept, bit for bit."""
    tensors, numbers = load_state(folder / "state.safetensors")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}, numbers["step"]


def test_a_student_has_weights_and_a_card_that_names_its_teacher(make_plan, teacher_path, tmp_path):
    settings, teacher = make_plan(distillation=SAMPLED)
    before, file = fingerprint(teacher.model), teacher_path.read_bytes()
    trainer = student_trainer(settings, teacher, BoxSource(), tmp_path / "run")
    trainer.run()
    assert trainer.is_done
    # the teacher is the same afterwards, bit for bit
    assert fingerprint(teacher.model) == before
    assert teacher_path.read_bytes() == file
    _, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert card.teacher == {"name": "toy", "checksum": teacher.card.checksum}
    kept = settings_from_dict(Settings, card.settings)
    assert kept.distillation == settings.distillation
    assert kept.sampling.steps == 1
    assert card.labels == BoxSource.labels


def test_a_resumed_distillation_is_the_one_that_was_not_stopped(make_plan, tmp_path):
    settings, teacher = make_plan(distillation=SAMPLED)
    student_trainer(settings, teacher, BoxSource(), tmp_path / "whole").run()
    parts = tmp_path / "parts"
    stop_after(student_trainer(settings, teacher, BoxSource(), parts), 7)
    last = student_trainer(settings, teacher, BoxSource(), parts, resume=True)
    assert last.step == 7
    last.run()
    assert last.is_done
    assert state(parts) == state(tmp_path / "whole")
    weights = [folder / "best.safetensors" for folder in (parts, tmp_path / "whole")]
    assert fingerprint(load_weights(weights[0])[0]) == fingerprint(load_weights(weights[1])[0])


def test_a_light_student_comes_to_agree_with_its_teacher(make_plan, tmp_path):
    # The teacher alone teaches: what is learnt is learnt from it.
    rest = "[model]\ndims = 2\nwidths = [4, 8, 8]\ndiffusion = false\n"
    settings, teacher = make_plan(rest=rest, distillation="teacher_samples = 1")
    longer = replace(
        settings.training, steps=80, validate_every=80, batch=4, ema=0.9, learning_rate=0.03
    )
    settings = replace(settings, training=longer)
    trainer = student_trainer(settings, teacher, BoxSource(), tmp_path / "run")
    assert agree(trainer.ema, teacher) < 0.3
    trainer.run()
    assert agree(trainer.ema, teacher) > 0.6


@torch.no_grad()
def agree(student, teacher: Teacher) -> float:
    """Dice of the foreground of student and teacher on unseen pictures."""
    images = torch.stack([image for image, _ in BoxSource().validation_examples(4)])
    a, b = (model(images).argmax(1) for model in (student, teacher.model))
    both = ((a == b) & (a > 0)).sum()
    return float(2 * both / ((a > 0).sum() + (b > 0).sum()))


# Refusals


def test_nothing_to_resume_is_refused(make_plan, tmp_path):
    with pytest.raises(CheckpointError, match="no distillation to resume; start without --resume"):
        student_trainer(*make_plan(), BoxSource(), tmp_path / "run", resume=True)


def test_another_teacher_does_not_take_over(make_plan, tmp_path):
    settings, teacher = make_plan()
    stop_after(student_trainer(settings, teacher, BoxSource(), tmp_path / "run"), 3)
    with torch.no_grad():
        next(teacher.model.parameters()).add_(1)
    save_weights(teacher.model, teacher.card, tmp_path / "other.safetensors")
    other = Teacher.load(str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="was begun with other weights of a teacher") as e:
        student_trainer(settings, other, BoxSource(), tmp_path / "run", resume=True)
    assert "\n" not in str(e.value)


def test_a_damaged_note_of_the_teacher_is_refused(make_plan, tmp_path):
    settings, teacher = make_plan()
    stop_after(student_trainer(settings, teacher, BoxSource(), tmp_path / "run"), 3)
    note = tmp_path / "run" / "teacher.json"
    assert json.loads(note.read_text()) == teacher.as_dict()
    note.write_text("[]")
    with pytest.raises(CheckpointError, match=r"teacher.json: cannot be read; start anew"):
        student_trainer(settings, teacher, BoxSource(), tmp_path / "run", resume=True)


def test_data_of_other_structures_are_refused_before_anything_is_written(make_plan, tmp_path):
    class Others(BoxSource):
        labels = (0, 1, 2)

    with pytest.raises(CheckpointError, match="they must be the same, so name a teacher of these"):
        student_trainer(*make_plan(), Others(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plain_training_does_not_pass_over_a_teacher(make_plan, tmp_path):
    settings, _ = make_plan()
    with pytest.raises(UsageError, match=r"distillation.teacher: got .*; run ddmseg distill"):
        Trainer(settings, BoxSource(), tmp_path / "run")


def test_a_student_above_the_fast_tier_is_allowed_but_said(make_plan, tmp_path, monkeypatch):
    trainer = student_trainer(*make_plan(), BoxSource(), tmp_path / "run")
    assert heavy(trainer) is None
    monkeypatch.setattr(run, "LIGHT", 100)
    said = heavy(trainer)
    assert said.endswith("more than the 100 of the fast tier; model.widths makes it lighter")
