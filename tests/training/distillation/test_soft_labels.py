"""Soft labels are the teacher's joined answer, and a smaller network learns from them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.maths.losses import class_fractions
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.settings import DistillationSettings
from ddmseg.networks.sampling import MaskSampler
from ddmseg.randomness import seeded
from ddmseg.training.distillation.soft_labels import (
    SoftLabelObjective,
    divergence,
    soft_labels,
    softened,
)
from ddmseg.training.objective import Objective
from toys import BoxSource, fingerprint, tiny_model, tiny_settings


def batch(items: int = 2):
    pairs = [BoxSource().training_example(seeded(0, n)) for n in range(items)]
    images, labels = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(labels)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def asked(**options) -> DistillationSettings:
    return DistillationSettings("toy", **options)


def objective(student, *, model=None, **options) -> SoftLabelObjective:
    teacher = (model or tiny_model(seed=1)).requires_grad_(False)
    settings = replace(tiny_settings(), distillation=asked(**options))
    return SoftLabelObjective(student, settings, teacher, tiny_settings())


def test_without_samples_the_coarse_head_answers():
    model = tiny_model()
    image, _ = batch()
    found = soft_labels(model, tiny_settings(), asked(temperature=2.0), image, seeded(0, 0))
    with torch.no_grad():
        expected = torch.softmax(model(image) / 2.0, dim=1)
    torch.testing.assert_close(found, expected)


def test_samples_are_joined_with_the_coarse_head_as_in_a_segmentation():
    model, own = tiny_model(), tiny_settings()
    image, _ = batch()
    more = asked(teacher_steps=3, teacher_samples=2, temperature=2.0)
    found = soft_labels(model, own, more, image, seeded(0, 0))
    with torch.no_grad():
        encoding = model.encode(image)
        draw, generator = MaskSampler(model, encoding, make_schedule()), seeded(0, 0)
        samples = [draw(steps=3, generator=generator) for _ in range(2)]
        share = own.sampling.coarse_share
        coarse = torch.softmax(encoding.coarse_logits, dim=1)
        expected = share * coarse + (1 - share) * (samples[0] + samples[1]) / 2
    torch.testing.assert_close(found, softened(expected, temperature=2.0))
    assert not found.requires_grad


def test_with_the_truth_alone_it_is_the_joint_loss():
    student = tiny_model()
    image, labels = batch()
    found = objective(student, truth_share=1.0)(image, labels, seeded(0, 0))
    expected = Objective(student, tiny_settings().loss)(image, labels, seeded(0, 0))
    assert found.total.item() == pytest.approx(expected.total.item())


def test_with_the_teacher_alone_segmentations_do_not_see_the_truth():
    student = tiny_model(mask_stride=2)
    image, labels = batch()
    ask = objective(student, truth_share=0.0)
    ask.settings = replace(ask.settings, discrepancy_weight=0.0)
    # With recycling throughout, the truth is not even what is noised.
    found = [ask(image, truth, seeded(0, 0)).total.item() for truth in (labels, labels * 0)]
    assert found[0] == found[1]


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_at_the_coarse_head():
    model = tiny_model()
    image, labels = batch()
    ask = objective(model, model=tiny_model(), temperature=3.0)
    assert ask(image, labels, seeded(0, 0), stage="image_encoder").total.item() < 1e-5


def test_where_the_mask_lives_on_half_the_grid_blocks_are_averaged():
    student = tiny_model(mask_stride=2)
    _, labels = batch()
    ask = objective(student)
    one_hot = class_fractions(labels, 3, 1)
    fractions = class_fractions(labels, 3, 2)
    ask._taught = one_hot
    said = fractions.clamp_min(1e-9).log()
    assert ask._coarser(said, fractions).item() == pytest.approx(0.0, abs=1e-6)


def test_a_light_student_is_taught_the_bits_of_its_blocks():
    student = tiny_model(mask_stride=2, denoiser_form="light")
    _, labels = batch()
    ask = objective(student, truth_share=0.0)
    ask._taught = class_fractions(labels, 3, 1)
    fractions = class_fractions(labels, 3, 2)
    encoding = student.mask_encoding
    said = torch.logit((encoding.of_probabilities(fractions) + 1) / 2, eps=1e-6)
    assert ask._coarser(said, fractions).item() == pytest.approx(0.0, abs=1e-4)
    assert ask._coarser(-said, fractions).item() > 1


@pytest.mark.parametrize("diffusion", [True, False])
def test_the_teacher_is_left_alone(diffusion):
    teacher = tiny_model(seed=1)
    before = fingerprint(teacher)
    student = tiny_model(diffusion=diffusion)
    ask = objective(student, model=teacher, teacher_samples=1, truth_share=0.5)
    ask(*batch(), seeded(0, 0)).total.backward()
    assert fingerprint(teacher) == before
    assert all(weight.grad is None for weight in teacher.parameters())
    assert student.image_encoder.head.logits.weight.grad.any()


@given(temperature=st.floats(0.25, 8))
def test_softening_is_a_softmax_of_divided_logits(temperature):
    logits = normal(2, 5, 3)
    expected = torch.softmax(logits / temperature, dim=1)
    found = softened(torch.softmax(logits, dim=1), temperature=temperature)
    torch.testing.assert_close(found, expected)


def test_certain_probabilities_can_be_softened():
    p = torch.tensor([[[1.0], [0.0], [0.0]]])
    found = softened(p, temperature=2.0)
    assert found.isfinite().all()
    assert found[0, 0, 0] > 0.99
    assert softened(p, temperature=1.0) is p


def test_divergence_is_cross_entropy_less_entropy():
    logits = normal(2, 5, 3, seed=1)
    p = torch.softmax(normal(2, 5, 3), dim=1)
    expected = F.cross_entropy(logits, p) + (p * p.log()).sum(1).mean()
    found = divergence(logits, p)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@given(seed=st.integers(0, 2**31), temperature=st.floats(0.5, 5))
def test_divergence_is_0_for_the_teacher_and_above_for_others(seed, temperature):
    logits = normal(1, 4, 6, seed=seed)
    p = torch.softmax(logits / temperature, dim=1)
    assert divergence(logits, p, temperature=temperature).item() == pytest.approx(0, abs=1e-5)
    other = logits + normal(1, 4, 6, seed=seed + 1)
    assert divergence(other, p, temperature=temperature) > 0


def test_its_gradient_is_student_less_teacher_at_any_temperature():
    teacher = normal(1, 4, 6)
    for temperature in (1.0, 3.0):
        logits = normal(1, 4, 6, seed=1).requires_grad_()
        p = torch.softmax(teacher / temperature, dim=1)
        divergence(logits, p, temperature=temperature).backward()
        q = torch.softmax(logits.detach() / temperature, dim=1)
        torch.testing.assert_close(logits.grad, temperature * (q - p) / 6, rtol=1e-4, atol=1e-6)


def test_classes_that_the_teacher_rules_out_are_no_trouble():
    p = torch.tensor([[[1.0], [0.0]]])
    logits = torch.tensor([[[0.0], [0.0]]])
    assert divergence(logits, p).item() == pytest.approx(math.log(2))
