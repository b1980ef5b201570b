"""Learning rate over the steps, and the end of a training whose curve is flat."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ddmseg.errors import SettingsError
from ddmseg.models.checkpoint import load_weights
from ddmseg.training.curve import Curve, is_done, learning_rate_factor
from ddmseg.training.trainer import Trainer, is_finished
from ddmseg.training.validation import ValidationScores
from toys import BoxSource, tiny_settings


def test_legs_rise_stay_and_fall_to_zero_again_and_again():
    factors = [learning_rate_factor(step, 10, 10**6, 90) for step in range(180)]
    assert factors[:90] == factors[90:]
    assert factors[0] == pytest.approx(0.1)
    assert all(factor == 1 for factor in factors[9:60])
    assert factors[89] == pytest.approx(1 / 30)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:90]))


def curve_of(path, dice: dict[int, float]) -> Curve:
    curve = Curve(path)
    for step, value in dice.items():
        curve.validated(step, ValidationScores(0.9, 0.9, value, all_empty=False))
    return curve


@pytest.mark.parametrize(
    ("dice", "rise"),
    [
        ({30: 0.5, 60: 0.75, 90: 0.875}, 0.125),
        ({30: 0.75, 60: 0.5, 90: 0.625}, -0.125),
        ({30: 0.5, 60: 0.5, 70: 0.75, 90: 0.5}, 0.25),
        ({90: 0.5}, math.inf),
        ({30: 0.5}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_late_rise_is_of_the_last_third(tmp_path, dice, rise):
    assert curve_of(tmp_path / "curve.csv", dice).late_rise(90) == rise


@pytest.mark.parametrize(
    ("step", "least_rise", "done"),
    [
        (90, 0.01, True),  # flat, at the end of the third leg
        (90, 0.0, False),  # nobody asked
        (90, 0.0005, False),  # it still rose by 0.001
        (60, 0.01, False),  # two legs are too few
        (89, 0.01, False),  # in the middle of a leg
        (3000, 0.0, True),
        (3000, 0.01, True),
    ],
)
def test_a_training_ends_at_its_last_step_or_flat_after_a_leg(tmp_path, step, least_rise, done):
    curve = curve_of(tmp_path / "curve.csv", {30: 0.5, 60: 0.8, 90: 0.801})
    settings = tiny_settings(steps=3000, leg_steps=30, least_rise=least_rise)
    assert is_done(settings, step, curve) is done


def test_a_flat_curve_ends_the_training_for_good(tmp_path):
    settings = tiny_settings(steps=60, leg_steps=4, validate_every=2, least_rise=1.0)
    trainer = Trainer(settings, BoxSource(), tmp_path)
    assert not trainer.is_done
    trainer.run()
    assert trainer.step == 12
    assert is_finished(tmp_path, settings)
    before = load_weights(tmp_path / "best.safetensors")[0].state_dict()
    again = Trainer(settings, BoxSource(), tmp_path, resume=True)
    assert again.is_done
    again.run()
    assert again.step == 12
    after = load_weights(tmp_path / "best.safetensors")[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_stopped_training_is_not_finished(tmp_path):
    settings = tiny_settings(steps=60, leg_steps=4, validate_every=2, least_rise=1.0)
    stops = iter([False] * 6 + [True])
    Trainer(settings, BoxSource(), tmp_path).run(should_stop=lambda: next(stops))
    assert not is_finished(tmp_path, settings)
    trainer = Trainer(settings, BoxSource(), tmp_path, resume=True)
    trainer.run()
    assert trainer.step == 12


def test_flatness_without_legs_is_refused():
    with pytest.raises(SettingsError, match=r"training\.least_rise.*training\.leg_steps"):
        tiny_settings(steps=60, least_rise=0.01)
    with pytest.raises(SettingsError, match=r"training\.least_rise: got 2"):
        tiny_settings(steps=60, leg_steps=4, least_rise=2)
