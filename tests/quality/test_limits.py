"""Limits of the expected Dice: by hand, and from trial to verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.ensemble import coarse_answer
from ddmseg.quality.assessment import assess, judge
from ddmseg.quality.limits import Limits, usual
from ddmseg.training.calibration import (
    Trial,
    calibrate,
    try_masks,
    volume_factors,
    with_usual,
)
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
    strict = judge(card_with(0.0, **{**others, name: dice + 0.16}), answer, assessment)
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


def test_volume_factors_count_a_subject_once_with_its_worse_mask() -> None:
    def trial(case: int, kind: str, factor: float) -> Trial:
        return Trial(kind, 0.5, 0.5, 0.5, 0.5, {}, {1: factor} if factor else {}, case)

    assert volume_factors(CARD, [trial(0, "coarse", 0.0)]) == {}
    few = [trial(case, "coarse", 1.0) for case in range(18)]
    found = volume_factors(CARD, few)
    assert found == {"volume_interval_factor": 1.0, "volume_interval_factors": {}}
    kinds = {"coarse": 0.0, "sampled": 0.5}
    both = [trial(n, kind, n + worse) for n in range(1, 20) for kind, worse in kinds.items()]
    found = volume_factors(CARD, [*both, trial(0, "corrupted", 0.0)])
    assert found["volume_interval_factors"] == {"Left-Hippocampus": 19.5}
    assert found["volume_interval_factor"] == 19.5  # the 38th of all 38
