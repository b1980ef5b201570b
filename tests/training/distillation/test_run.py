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
from ddmseg.training.distillation.plan import Teacher
from ddmseg.training.distillation.run import Round, distil
from ddmseg.training.trainer import Trainer
from toys import BoxSource, fingerprint

LIGHT_MODEL = """
[model]
dims = 2
widths = [4, 4, 4]
embedding = 1
mask_width = 2
denoiser_width = 2
"""
METHODS = ["consistency", "progressive", "soft_labels"]


def options(method: str) -> dict[str, str]:
    if method != "soft_labels":
        return {}
    more = "teacher_samples = 1\ntemperature = 2.0\ntruth_share = 0.5"
    return {"rest": LIGHT_MODEL, "distillation": more}


def train(current: Round) -> None:
    current.trainer.run()


def stop_after(steps: int):
    """Train, and stop all after so many steps over all rounds."""
    taken = 0

    def one_more() -> bool:
        nonlocal taken
        taken += 1
        return taken >= steps

    return lambda current: current.trainer.run(should_stop=one_more)


def states(folder: Path) -> dict[str, tuple[dict[str, bytes], int]]:
    """Everything that is kept of every round, bit for bit."""
    found = {}
    for path in sorted(folder.rglob("state.safetensors")):
        tensors, numbers = load_state(path)
        plain = {name: value.numpy().tobytes() for name, value in tensors.items()}
        found[str(path.relative_to(folder))] = (plain, numbers["step"])
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_student_has_weights_and_a_card_that_names_its_teacher(
    make_plan, teacher_path, tmp_path, method
):
    settings, teacher = make_plan(method, **options(method))
    before, file = fingerprint(teacher.model), teacher_path.read_bytes()
    last = distil(settings, teacher, BoxSource(), tmp_path / "run", train)
    assert last.is_complete
    # the teacher is the same afterwards, bit for bit
    assert fingerprint(teacher.model) == before
    assert teacher_path.read_bytes() == file
    model, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert card.teacher == {"name": "toy", "checksum": teacher.card.checksum}
    kept = settings_from_dict(Settings, card.settings)
    assert kept.distillation == settings.distillation
    assert kept.sampling.steps == 1
    assert card.labels == BoxSource.labels
    if method != "soft_labels":
        for part in ("image_encoder", "segmentation_encoder"):
            assert fingerprint(getattr(model, part)) == fingerprint(getattr(teacher.model, part))
        assert fingerprint(model.denoiser) != fingerprint(teacher.model.denoiser)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_distillation_is_the_one_that_was_not_stopped(make_plan, tmp_path, method):
    settings, teacher = make_plan(method, **options(method))
    distil(settings, teacher, BoxSource(), tmp_path / "whole", train)
    parts = tmp_path / "parts"
    for number, steps in enumerate([7, 5] if method == "progressive" else [7]):
        distil(settings, teacher, BoxSource(), parts, stop_after(steps), resume=number > 0)
    last = distil(settings, teacher, BoxSource(), parts, train, resume=True)
    assert last.is_complete
    if method == "progressive":
        assert list(states(parts)) == [f"{n}/state.safetensors" for n in ("1-step", "2-steps")]
    assert states(parts) == states(tmp_path / "whole")
    weights = [folder / "best.safetensors" for folder in (parts, tmp_path / "whole")]
    assert fingerprint(load_weights(weights[0])[0]) == fingerprint(load_weights(weights[1])[0])


def test_each_student_of_a_chain_teaches_the_next(make_plan, tmp_path):
    settings, teacher = make_plan("progressive")
    seen = []

    def watch(current: Round) -> None:
        own = current.trainer.settings
        seen.append((current.number, current.rounds, own.sampling.steps))
        master = current.trainer.objective.teacher
        expected = (
            teacher.model
            if current.number == 1
            else load_weights(tmp_path / "run" / "2-steps" / "best.safetensors")[0]
        )
        assert fingerprint(master) == fingerprint(expected)
        assert fingerprint(current.trainer.model) == fingerprint(expected)
        current.trainer.run()

    distil(settings, teacher, BoxSource(), tmp_path / "run", watch)
    assert seen == [(1, 2, 2), (2, 2, 1)]
    up, last = (tmp_path / "run" / place / "best.safetensors" for place in (".", "1-step"))
    assert up.read_bytes() == last.read_bytes()
    assert up.with_suffix(".json").read_bytes() == last.with_suffix(".json").read_bytes()


def test_a_stopped_chain_has_no_weights_of_its_own_yet(make_plan, tmp_path):
    settings, teacher = make_plan("progressive")
    last = distil(settings, teacher, BoxSource(), tmp_path / "run", stop_after(12))
    assert (last.number, last.rounds, last.trainer.step) == (2, 2, 2)
    assert not last.is_done
    assert not last.is_complete
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_light_student_comes_to_agree_with_its_teacher(make_plan, tmp_path):
    # The teacher alone teaches: what is learnt is learnt from it.
    rest = "[model]\ndims = 2\nwidths = [4, 8, 8]\ndiffusion = false\n"
    settings, teacher = make_plan("soft_labels", rest=rest, distillation="teacher_samples = 1")
    longer = replace(
        settings.training, steps=80, validate_every=80, batch=4, ema=0.9, learning_rate=0.03
    )
    settings = replace(settings, training=longer)
    agreement = []

    def watch(current: Round) -> None:
        agreement.append(agree(current.trainer.ema, teacher))
        current.trainer.run()
        agreement.append(agree(current.trainer.ema, teacher))

    distil(settings, teacher, BoxSource(), tmp_path / "run", watch)
    assert agreement[0] < 0.3
    assert agreement[1] > 0.6


@torch.no_grad()
def agree(student, teacher: Teacher) -> float:
    """Dice of the foreground of student and teacher on unseen pictures."""
    images = torch.stack([image for image, _ in BoxSource().validation_examples(4)])
    a, b = (model(images).argmax(1) for model in (student, teacher.model))
    both = ((a == b) & (a > 0)).sum()
    return float(2 * both / ((a > 0).sum() + (b > 0).sum()))


# Refusals


def test_nothing_to_resume_is_refused(make_plan, tmp_path):
    settings, teacher = make_plan()
    with pytest.raises(CheckpointError, match="no distillation to resume; start without --resume"):
        distil(settings, teacher, BoxSource(), tmp_path / "run", train, resume=True)


def test_another_teacher_does_not_take_over(make_plan, tmp_path):
    settings, teacher = make_plan()
    distil(settings, teacher, BoxSource(), tmp_path / "run", stop_after(3))
    with torch.no_grad():
        next(teacher.model.parameters()).add_(1)
    save_weights(teacher.model, teacher.card, tmp_path / "other.safetensors")
    other = Teacher.load(str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="was begun with other weights of a teacher") as e:
        distil(settings, other, BoxSource(), tmp_path / "run", train, resume=True)
    assert "\n" not in str(e.value)


def test_a_damaged_note_of_the_teacher_is_refused(make_plan, tmp_path):
    settings, teacher = make_plan()
    distil(settings, teacher, BoxSource(), tmp_path / "run", stop_after(3))
    note = tmp_path / "run" / "teacher.json"
    assert json.loads(note.read_text()) == teacher.as_dict()
    note.write_text("[]")
    with pytest.raises(CheckpointError, match=r"teacher.json: cannot be read; start anew"):
        distil(settings, teacher, BoxSource(), tmp_path / "run", train, resume=True)


def test_data_of_other_structures_are_refused_before_anything_is_written(make_plan, tmp_path):
    class Others(BoxSource):
        labels = (0, 1, 2)

    settings, teacher = make_plan()
    with pytest.raises(CheckpointError, match="they must be the same, so name a teacher of these"):
        distil(settings, teacher, Others(), tmp_path / "run", train)
    assert not (tmp_path / "run").exists()


def test_a_plain_training_does_not_pass_over_a_teacher(make_plan, tmp_path):
    settings, _ = make_plan()
    with pytest.raises(UsageError, match=r"distillation.teacher: got .*; run ddmseg distill"):
        Trainer(settings, BoxSource(), tmp_path / "run")


def test_a_student_above_the_fast_tier_is_allowed_but_said(make_plan, tmp_path, monkeypatch):
    from ddmseg.training.distillation import run

    settings, teacher = make_plan("soft_labels", **options("soft_labels"))
    said = []

    def watch(current: Round) -> None:
        said.append(current.heavy)

    distil(settings, teacher, BoxSource(), tmp_path / "a", watch)
    monkeypatch.setattr(run, "LIGHT", 100)
    distil(settings, teacher, BoxSource(), tmp_path / "b", watch)
    distil(*make_plan(), BoxSource(), tmp_path / "c", watch)  # has its teacher's network
    assert said[0] is None
    assert said[1].endswith("more than the 100 of the fast tier; model.widths makes it lighter")
    assert said[2] is None
