"""What each method asks of a student, and that asking teaches it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from ddmseg.maths.distillation import divergence
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.settings import DistillationSettings, SamplingSettings
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg.training.distillation.steps import (
    ConsistencyObjective,
    EncodedDenoiser,
    ProgressiveObjective,
)
from toys import BoxSource, fingerprint, tiny_model, tiny_settings

SCHEDULE = make_schedule()


def settings(method: str, *, teacher_steps: int = 4, steps: int = 1, truth_share: float = 0.0):
    asked = DistillationSettings("toy", method, teacher_steps, truth_share=truth_share)
    return replace(tiny_settings(), distillation=asked, sampling=SamplingSettings(steps=steps))


def stubborn(model: DiscrepancyDiffusionSegmenter) -> DiscrepancyDiffusionSegmenter:
    """Make a denoiser say much, and at each time something else."""
    parts = model.denoiser
    with torch.no_grad():
        for block in (parts.half_block, parts.quarter_block):
            block.modulation.weight *= 8
        for head in (parts.step_head, parts.fine_head.logits):
            if head is not None:
                head.weight *= 6
    return model


def batch(items: int = 2):
    pairs = [BoxSource().training_example(seeded(0, n)) for n in range(items)]
    images, labels = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(labels)


def objective(method: str, *, stride: int = 1, **options):
    """The objective of a student that begins as its teacher, and both."""
    teacher = stubborn(tiny_model(mask_stride=stride)).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    chosen = settings(method, **options)
    if method == "progressive":
        return ProgressiveObjective(student, teacher, chosen), student, teacher
    return ConsistencyObjective(student, student, teacher, chosen), student, teacher


METHODS = ["consistency", "progressive"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stride", [1, 2])
def test_only_the_denoiser_gets_a_gradient(method, stride):
    ask, student, teacher = objective(method, stride=stride, steps=2)
    before = fingerprint(teacher)
    losses = [ask(*batch(), seeded(0, n)) for n in range(4)]
    torch.stack([each.total for each in losses]).sum().backward()
    touched = {
        name.split(".")[0]
        for name, weight in student.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }
    assert touched == {"denoiser"}
    assert fingerprint(teacher) == before
    assert all(weight.grad is None for weight in teacher.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_equal_generators_ask_equal_questions(method):
    ask, _, _ = objective(method, steps=2)
    first, again, other = (ask(*batch(), seeded(0, n)).total.item() for n in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_step_of_the_student_is_asked_for_the_end_of_two():
    ask, _, teacher = objective("progressive", steps=1)
    image, _ = batch()
    with torch.no_grad():
        encoding = teacher.encode(image)
        guide = EncodedDenoiser(teacher, encoding, SCHEDULE)
        here, target = ask.lesson(guide, seeded(0, 0))
        # The position is drawn first; a walk of two steps from the same noise follows.
        generator = seeded(0, 0)
        torch.randint(1, (), generator=generator)
        expected = MaskSampler(teacher, encoding, SCHEDULE)(steps=2, generator=generator)
    assert here.t == 1
    torch.testing.assert_close(target[-1], expected)


def test_at_the_last_time_consistency_asks_for_what_the_teacher_says():
    # One step of the teacher: the only time is the last.
    ask, _, teacher = objective("consistency", teacher_steps=1)
    with torch.no_grad():
        guide = EncodedDenoiser(teacher, teacher.encode(batch()[0]), SCHEDULE)
        here, target = ask.lesson(guide, seeded(0, 0))
        torch.testing.assert_close(target, guide.probabilities(here))


def test_elsewhere_it_asks_for_what_the_average_says_a_step_later():
    ask, _, teacher = objective("consistency", teacher_steps=2)
    average = ask.average = tiny_model(seed=7)
    times = ask.times
    image, _ = batch()
    with torch.no_grad():
        encoding = teacher.encode(image)
        guide = EncodedDenoiser(teacher, encoding, SCHEDULE)
        lessons = (ask.lesson(guide, seeded(0, n)) for n in range(20))
        here, target = next(pair for pair in lessons if pair[0].t == 1)
        later = guide.step(here, guide.probabilities(here), times[1])
        expected = EncodedDenoiser(average, encoding, SCHEDULE).probabilities(later)
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("method", METHODS)
def test_every_time_of_the_walk_is_visited(method):
    ask, _, teacher = objective(method, teacher_steps=4, steps=2)
    with torch.no_grad():
        guide = EncodedDenoiser(teacher, teacher.encode(batch(1)[0]), SCHEDULE)
        seen = {float(ask.lesson(guide, seeded(0, n))[0].t) for n in range(30)}
    every = 2 if method == "progressive" else 1
    assert seen == set(ask.times[:-1:every].tolist())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_truth_has_its_share(share):
    ask, _, _ = objective("progressive", truth_share=share)
    image, labels = batch()
    right, wrong = (
        ask(image, truth, seeded(0, 0)).total.item() for truth in (labels, labels.flip(2))
    )
    assert (right == wrong) == (share == 0)


@pytest.mark.parametrize(("method", "stride"), [("consistency", 1), ("progressive", 2)])
def test_a_student_learns_to_say_at_once_what_its_teacher_says_in_the_end(method, stride):
    ask, student, teacher = objective(method, stride=stride, teacher_steps=2, steps=1)
    image, labels = batch()

    @torch.no_grad()
    def apart() -> float:
        encoding = teacher.encode(image)
        end = MaskSampler(teacher, encoding, SCHEDULE)(steps=2, generator=seeded(9, 9))
        said = MaskSampler(student, encoding, SCHEDULE)(steps=1, generator=seeded(9, 9))
        return divergence(said.log(), end).item()

    before = apart()
    optimiser = torch.optim.Adam([w for w in student.parameters() if w.requires_grad], 0.01)
    for step in range(40):
        optimiser.zero_grad()
        ask(image, labels, seeded(1, step)).total.backward()
        optimiser.step()
    assert before > 0.05
    assert apart() < 0.5 * before
