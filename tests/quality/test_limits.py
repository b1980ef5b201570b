"""Limits of the expected Dice: by hand, and from trial to verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.ensemble import coarse_answer
from ddmseg.quality.assessment import assess, judge
from ddmseg.quality.limits import Limits, usual
from ddmseg.training.calibration import calibrate, try_masks, with_usual
from ddmseg.training.volume_calibration import SizedCase, volume_bounds
from toys import tiny_model

CARD = Card("tiny", (0, 17, 53), settings_to_dict(Settings(name="tiny")))


def card_with(whole: float, **structures: float) -> Card:
    told = {"expected_dice": whole, "structures": structures, "scans": 3}
    return replace(CARD, calibration={"usual": told})


def test_without_a_usual_dice_the_limits_are_the_general_ones() -> None:
    limits = Limits.of(CARD)
    assert (limits.passes, limits.fails, limits.of_structure("Left-Amygdala")) == (0.8, 0.6, 0.5)


def test_limits_follow_what_is_usual() -> None:
    limits = Limits.of(card_with(0.747, Putamen=0.8, Accumbens=0.1))
    assert limits.passes == 0.70
    assert limits.fails == 0.55
    assert limits.of_structure("Putamen") == 0.65
    assert limits.of_structure("Accumbens") == 0.0  # usually bad
    assert limits.of_structure("Thalamus") == 0.5  # not met before


def test_usual_is_the_mean_over_the_scans_that_hold_a_structure() -> None:
    told = usual([0.7, 0.8], [{"a": 0.6, "b": 0.9}, {"a": 0.8}])
    assert told == {
        **{"expected_dice": 0.75, "structures": {"a": 0.7, "b": 0.9}, "scans": 2},
        "spread": {"a": pytest.approx(0.1414, abs=1e-4)},  # of b there is one
    }


def test_a_structure_that_scatters_is_given_more_room() -> None:
    structures = {"steady": 0.8, "restless": 0.8, "new": 0.8}
    told = {"expected_dice": 0.8, "structures": structures, "scans": 5}
    spread = {"steady": 0.01, "restless": 0.07}
    limits = Limits.of(replace(CARD, calibration={"usual": {**told, "spread": spread}}))
    assert limits.of_structure("steady") == pytest.approx(0.8 - 0.15)
    # squares of 0.07 and of both together, 0.0025, half way: 0.0608 times 3.5
    assert limits.of_structure("restless") == pytest.approx(0.8 - 0.21, abs=0.006)
    assert limits.of_structure("new") == pytest.approx(0.8 - 3.5 * 0.05, abs=0.006)


def test_a_structure_usually_drawn_badly_is_not_named_for_it() -> None:
    limits = Limits.of(card_with(0.7, Ventricle=0.49, Putamen=0.5))
    assert limits.of_structure("Ventricle") == 0.0
    assert limits.of_structure("Putamen") == 0.35


@pytest.mark.parametrize(("other", "named"), [(0.48, False), (0.52, True)])
def test_both_sides_decide_whether_one_is_named(other: float, named: bool) -> None:
    card = card_with(0.8, **{"Left-Amygdala": other, "Right-Amygdala": 0.51})
    limits = Limits.of(card)
    assert (limits.of_structure("Right-Amygdala") > 0) is named
    assert (limits.of_structure("Left-Amygdala") > 0) is named


@torch.inference_mode()
def assessed(card: Card):
    model = tiny_model()
    encoding = model.encode(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    answer = coarse_answer(encoding)
    return answer, assess(model, card, encoding, answer)


@pytest.mark.parametrize(("above", "verdict"), [(0.04, "pass"), (0.06, "warn"), (0.21, "fail")])
def test_the_same_result_passes_or_fails_by_what_is_usual(above: float, verdict: str) -> None:
    answer, assessment = assessed(CARD)
    usual_dice = round(assessment.expected_dice, 2) + above
    structures = {"Left-Hippocampus": 0.0, "Right-Hippocampus": 0.0}  # none is weak
    card = card_with(usual_dice, **structures)
    # two digits of the limit leave half a point on either side
    found = judge(card, answer, replace(assessment, expected_dice=round(usual_dice - above, 2)))
    assert found.verdict == verdict
    assert ("expected_dice_low" in [reason.code for reason in found.reasons]) == (above > 0.05)


def test_a_structure_is_named_when_it_falls_behind_its_own() -> None:
    answer, assessment = assessed(CARD)
    found = judge(CARD, answer, assessment).expected_dice_by_structure
    name, dice = max(found.items(), key=lambda item: item[1])
    others = dict.fromkeys(found, 0.0)
    lenient = judge(card_with(0.0, **others), answer, assessment)
    # with the other side at 0 both together are usually drawn well enough to be named
    strict = judge(card_with(0.0, **{**others, name: 1.0}), answer, assessment)
    assert lenient.verdict == "pass"
    (reason,) = strict.reasons
    assert f"{name} ({dice:.2f})" in reason


def test_calibration_leaves_what_intact_validation_subjects_get() -> None:
    generator = torch.Generator().manual_seed(2)
    examples = [
        (torch.randn(1, 16, 16, generator=generator), torch.randint(0, 3, (16, 16)))
        for _ in range(3)
    ]
    trials = try_masks(tiny_model(), CARD, examples)
    card = calibrate(CARD, trials, (17,))
    told = card.calibration["usual"]
    assert told["scans"] == 3
    assert set(told["structures"]) <= {"Left-Hippocampus", "Right-Hippocampus"}
    means = [t.expected for t in trials if t.kind == "sampled"]
    assert told["expected_dice"] != pytest.approx(sum(means) / 3, abs=1e-3)  # it is calibrated
    assert Limits.of(card).passes == round(told["expected_dice"] - 0.05, 2)
    assert with_usual(CARD, []) == CARD


def sized(found: float, true: float, other: float = 1000.0, soft: float = 1000.0) -> SizedCase:
    """A mask whose second structure is in doubt in as many voxels as it has."""
    return SizedCase(
        (0, found, 1000), (0, found, 500), (0, 0, 500), (0, soft, 1000), (0, true, other)
    )


def test_bounds_of_volumes_hold_95_of_100_cases_around_their_median() -> None:
    """True over soft is 1.5 for half of the cases, and up to e times as much or as little."""
    spread = [math.exp(x) for x in np.linspace(-1, 1, 39)]
    cases = [sized(1000, 1500 * x, 1000 * x) for x in spread]
    found = volume_bounds(CARD, cases)
    low, high = found["volume_bounds"]["Left-Hippocampus"]
    scale = 0.01  # no voxel of it is in doubt
    # the 38th of 39 distances from the median is the largest
    assert low * scale == pytest.approx(math.log(1.5) - 1, abs=1e-3)
    assert high * scale == pytest.approx(math.log(1.5) + 1, abs=1e-3)
    assert found["volume_bounds"]["Right-Hippocampus"] == pytest.approx([-1, 1], abs=1e-3)
    assert found["volume_bounds"]["Hippocampus"][0] < 0
    assert found["asymmetry_ratios"]["Hippocampus"] == pytest.approx([0, math.log(1.5)], abs=1e-3)


def test_bounds_are_of_the_soft_volume_whatever_was_found() -> None:
    cases = [sized(found, 1500) for found in np.linspace(500, 2000, 20)]
    low, high = volume_bounds(CARD, cases)["volume_bounds"]["Left-Hippocampus"]
    assert (low, high * 0.01) == pytest.approx((0.0, math.log(1.5)), abs=1e-3)


def test_a_volume_never_lies_outside_its_own_interval() -> None:
    found = volume_bounds(CARD, [sized(1000, 1500)] * 20)
    assert found["volume_bounds"]["Left-Hippocampus"][0] == 0.0
    assert found["volume_bounds"]["Left-Hippocampus"][1] > 0


def test_too_few_or_too_small_structures_get_no_bounds() -> None:
    assert volume_bounds(CARD, [])["volume_bounds"] == {}
    assert volume_bounds(CARD, [sized(1000, 1000)] * 18)["volume_bounds"] == {}
    slivers = volume_bounds(CARD, [sized(40, 1000)] * 30)["volume_bounds"]
    assert set(slivers) == {"Right-Hippocampus", "Hippocampus"}
