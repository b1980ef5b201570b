"""Volumes and their intervals, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS
from ddmseg.imaging.volume import Volume
from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.card import Card
from ddmseg.networks.ensemble import Answer
from ddmseg.quality.quantities import not_measured, pairs, shows_head, structures, totals
from ddmseg.quality.segmentation import INTRACRANIAL, StructureVolume
from ddmseg.quality.volume_intervals import Sizes, drawn_to_usual
from ddmseg.quality.volumes import Measured, reads_samples

LABELS = (0, 17, 53)
EXPECTED = Expectation(
    size=torch.tensor([90.0, 10.0, 0.0]),
    hits=torch.tensor([88.0, 8.0, 0.0]),
    missed=torch.tensor([1.0, 3.0, 0.0]),
    soft=torch.tensor([88.0, 12.0, 0.0]),
)
"""Of 10 voxels 2 are expected to be wrong and 3 missed: half of it is in doubt."""


def measured(
    found_ml: dict[int, float] | None = None,
    expected: Expectation = EXPECTED,
    **calibration: Any,
) -> Measured:
    card = Card("toy", LABELS, {}, calibration=calibration)
    return Measured(card, found_ml or {17: 0.1}, expected, expected_voxel_ml=0.008)


def volumes(expected: Expectation = EXPECTED, **calibration: Any) -> list[StructureVolume]:
    found = measured(expected=expected, **calibration)
    return [found.row(one) for one in structures(LABELS)]


def test_without_calibration_the_doubt_of_the_model_grid_bounds_the_volume() -> None:
    left, right = volumes()
    assert (left.index, left.name, left.volume_ml) == (17, "Left-Hippocampus", 0.1)
    assert left.interval_low_ml == pytest.approx(0.08)
    assert left.interval_high_ml == pytest.approx(0.13)
    assert (right.volume_ml, right.interval_low_ml, right.interval_high_ml) == (0.0, 0.0, 0.0)


def test_ratios_of_earlier_cards_bound_the_volume_found() -> None:
    left = volumes(volume_ratios={"Left-Hippocampus": [-0.4, 0.8]})[0]
    assert left.interval_low_ml == pytest.approx(0.1 * math.exp(-0.2))
    assert left.interval_high_ml == pytest.approx(0.1 * math.exp(0.4))


@pytest.mark.parametrize(
    ("soft", "bounds", "low", "high"),
    [
        (12.0, [-0.8, 0.4], math.log(1.2) - 0.4, math.log(1.2) + 0.2),
        (8.0, [-0.4, 0.8], math.log(0.8) - 0.2, math.log(0.8) + 0.4),
        (12.0, [-0.1, 0.4], 0.0, math.log(1.2) + 0.2),  # the volume found lies within
        (8.0, [-0.4, 0.1], math.log(0.8) - 0.2, 0.0),
        (0.0, [-0.4, 0.8], math.log(1e-3) - 0.2, 0.0),
    ],
)
def test_bounds_are_around_the_soft_volume_and_hold_the_one_found(soft, bounds, low, high) -> None:
    expected = replace(EXPECTED, soft=torch.tensor([90.0, soft, 0.0]))
    left = volumes(expected, volume_bounds={"Left-Hippocampus": bounds})[0]
    assert left.volume_ml == 0.1
    assert left.interval_low_ml == pytest.approx(0.1 * math.exp(low))
    assert left.interval_high_ml == pytest.approx(0.1 * math.exp(high))


@pytest.mark.parametrize(("bias", "low", "high"), [(-0.3, -0.5, 0.4), (0.3, -0.2, 0.7)])
def test_a_bias_that_drawn_scans_show_widens_one_side(bias, low, high) -> None:
    """However sure the scan looks: no doubt of the model's tells what it never learned."""
    left = volumes(
        volume_ratios={"Left-Hippocampus": [-0.4, 0.8]}, drawn_bias={"Left-Hippocampus": bias}
    )[0]
    assert left.volume_ml == 0.1
    assert left.interval_low_ml == pytest.approx(0.1 * math.exp(low))
    assert left.interval_high_ml == pytest.approx(0.1 * math.exp(high))


def test_ratios_are_scaled_by_the_doubt_of_the_scan() -> None:
    bounds = {"Left-Hippocampus": [-0.4, 0.8]}
    worse = replace(EXPECTED, missed=torch.tensor([1.0, 8.0, 0.0]))
    wide = volumes(worse, volume_ratios=bounds)[0]
    assert wide.interval_high_ml == pytest.approx(0.1 * math.exp(0.8))
    sure = replace(EXPECTED, hits=EXPECTED.size, missed=torch.zeros(3))
    narrow = volumes(sure, volume_ratios=bounds)[0]
    assert narrow.interval_high_ml == pytest.approx(0.1 * math.exp(0.8 * 0.01))


def test_a_structure_found_nowhere_may_be_as_large_as_what_is_missed() -> None:
    missed = replace(EXPECTED, missed=torch.tensor([1.0, 3.0, 30.0]))
    right = volumes(missed, volume_ratios={"Right-Hippocampus": [-0.1, 0.1]})[1]
    assert (right.volume_ml, right.interval_low_ml) == (0.0, 0.0)
    assert right.interval_high_ml == pytest.approx(30 * 0.008)


@pytest.mark.parametrize("missed", [31.0, 1e6])
def test_a_structure_hardly_found_may_be_as_large_as_what_is_missed(missed) -> None:
    """Bounds times such a doubt would be no number."""
    lost = replace(EXPECTED, missed=torch.tensor([1.0, missed, 0.0]))
    left = volumes(lost, volume_ratios={"Left-Hippocampus": [-1.0, 1.0]})[0]
    assert left.interval_low_ml == 0.0
    assert left.interval_high_ml == pytest.approx(0.1 + missed * 0.008)


# By samples

SAMPLED = {"sample_bounds": {"Left-Hippocampus": [0.1, -2.0, 3.0]}}
CARD = Card("toy", LABELS, {"sampling": {"samples": 2}}, calibration=SAMPLED)


def drawn(*left: float, weights: tuple[float, ...] = (0.5, 0.5)) -> Answer:
    table = torch.tensor([[80.0, volume, 4.0] for volume in left])
    return Answer(torch.zeros(1, 3, 2, 2, 2), torch.tensor(weights), table, 10)


def sampled(answer: Answer, card: Card = CARD) -> Measured:
    return Measured(card, {17: 0.1}, EXPECTED, expected_voxel_ml=0.008, answer=answer)


def test_bounds_by_samples_are_around_their_mean_in_units_of_their_spread() -> None:
    left = sampled(drawn(10.0, 14.0)).row(structures(LABELS)[0])
    spread = math.log(1.4) / math.sqrt(2)  # of two equal ones, the bias of the square taken out
    assert 0.1 < spread < 0.3
    scale = spread + 0.1
    assert left.interval_low_ml == pytest.approx(0.1 * 1.2 * math.exp(-2.0 * scale))
    assert left.interval_high_ml == pytest.approx(0.1 * 1.2 * math.exp(3.0 * scale))


def test_weights_count_in_mean_and_spread() -> None:
    sizes = Sizes(10.0, 8.0, 3.0, 12.0, (10.0, 20.0), (0.75, 0.25))
    assert sizes.mean == pytest.approx(12.5)
    # 0.75 * 0.25 * log(2)^2, over 1 less the sum of squared weights
    assert sizes.spread == pytest.approx(math.log(2) * math.sqrt(0.1875 / 0.375))
    one = Sizes(10.0, 8.0, 3.0, 12.0, (10.0, 20.0), (1.0, 0.0))
    assert (one.mean, one.spread) == (10.0, 0.0)


@given(st.floats(0, 1e6), st.floats(1e-9, 50))
def test_a_spread_is_drawn_to_one_to_four_times_the_usual_one(spread, usual) -> None:
    scale = drawn_to_usual(spread, usual)
    assert usual <= scale <= 4 * usual * (1 + 1e-9)


def test_samples_without_a_voxel_still_have_an_interval() -> None:
    left = sampled(drawn(0.0, 0.0)).row(structures(LABELS)[0])
    assert 0 < left.interval_low_ml < left.interval_high_ml
    assert left.interval_high_ml == 0.1  # the volume found lies within


def test_fewer_samples_than_the_bounds_were_fitted_with_tell_nothing() -> None:
    few = drawn(10.0, weights=(1.0,))
    assert not reads_samples(CARD, few)
    without_samples = Measured(CARD, {17: 0.1}, EXPECTED, expected_voxel_ml=0.008)
    left = structures(LABELS)[0]
    assert sampled(few).row(left) == without_samples.row(left)
    assert reads_samples(CARD, drawn(10.0, 12.0))
    without = replace(CARD, calibration={})
    assert not reads_samples(without, drawn(10.0, 12.0))


def test_the_sums_of_sides_are_summed_sample_by_sample() -> None:
    """One side larger where the other is smaller: the pair is surer than either."""
    bounds = {"sample_bounds": {"Hippocampus": [0.1, -1.0, 1.0]}}
    table = torch.tensor([[80.0, 10.0, 6.0], [80.0, 6.0, 10.0]])
    answer = Answer(torch.zeros(1, 3, 2, 2, 2), torch.tensor([0.5, 0.5]), table, 10)
    of_both = sampled(answer, replace(CARD, calibration=bounds)).sizes(pairs(LABELS)[0])
    assert (of_both.mean, of_both.spread) == (16.0, 0.0)


def test_the_width_of_a_scan_is_the_median_without_the_drawn_part() -> None:
    bounds = {"Left-Hippocampus": [-0.4, 0.8], "Right-Hippocampus": [-0.2, 0.2]}
    both = replace(EXPECTED, size=torch.tensor([90.0, 10.0, 20.0]), soft=torch.full((3,), 20.0))
    found = measured(expected=both, volume_bounds=bounds, drawn_bias={"Left-Hippocampus": 9.0})
    left = 2 * math.exp(0.8 * 0.5) - 1.0
    right = math.exp(0.2) - math.exp(-0.2)  # all 20 voxels are in doubt
    assert found.width() == pytest.approx((left + right) / 2)
    lost = replace(both, missed=torch.tensor([1.0, 3.0, 70.0]))
    found = measured(expected=lost, volume_bounds=bounds)
    from_nothing = 1 + 70 / 20
    assert found.width() == pytest.approx((left + from_nothing) / 2)
    assert measured().width() is None


def test_both_sides_are_a_row_of_their_own() -> None:
    (pair,) = pairs(LABELS)
    row = measured({17: 0.1, 53: 0.3}).row(pair)
    assert (row.index, row.name, row.volume_ml) == (0, "Hippocampus", pytest.approx(0.4))


def test_asymmetry_is_the_difference_over_the_mean() -> None:
    (pair,) = pairs(LABELS)
    found = measured({17: 3.0, 53: 2.0}, asymmetry_ratios={"Hippocampus": [-0.1, 0.1]})
    told = found.asymmetry(pair)
    assert told is not None
    assert told.percent == pytest.approx(100 * (3 - 2) / 2.5)
    assert told.interval_low < told.percent < told.interval_high
    bare = measured({17: 3.0, 53: 2.0}).asymmetry(pair)
    assert bare is not None
    assert (bare.interval_low, bare.interval_high) == (-200, 200)  # never measured
    assert measured({17: 3.0}).asymmetry(pair) is None


def test_totals_share_out_the_brain() -> None:
    rows = {row.name: set(row.ids) for row in totals(ANATOMY_LABELS)}
    assert rows["Brain"] == rows["Grey-Matter"] | rows["White-Matter"] | {16}
    assert not rows["Grey-Matter"] & rows["White-Matter"]
    assert rows[INTRACRANIAL] == rows["Brain"] | rows["Ventricles"] | {24}
    assert totals(HIPPOCAMPUS_LABELS) == []
    assert {row.name for row in pairs(ANATOMY_LABELS)} >= {"Hippocampus", "Lateral-Ventricle"}


def head(*, stripped: bool) -> tuple[Volume, np.ndarray]:
    """A ball of brain with fat around dark bone, or alone."""
    away = np.linalg.norm(np.indices((64,) * 3) - 31.5, axis=0)
    labels = np.where(away < 16, 2, 0).astype(np.int32)
    data = np.where(away < 16, 100.0, 0.0) + np.where((away > 21) & (away < 27), 150.0, 0.0)
    if stripped:
        data[labels == 0] = 0
    return Volume(data.astype(np.float32), np.eye(4), "ball"), labels


def test_a_head_is_told_from_a_brain_cut_out_of_one() -> None:
    assert shows_head(*head(stripped=False))
    assert not shows_head(*head(stripped=True))
    scan, labels = head(stripped=False)
    assert not shows_head(scan, np.zeros_like(labels))


def test_what_a_scan_does_not_allow_is_left_out_with_the_reason() -> None:
    whole, bare = head(stripped=False), head(stripped=True)
    assert not_measured(*whole, ANATOMY_LABELS, cut=False) == {}
    assert not_measured(*bare, ANATOMY_LABELS, cut=False) == {
        INTRACRANIAL: "the scan shows no head around the brain"
    }
    cut = not_measured(*whole, ANATOMY_LABELS, cut=True)
    assert set(cut) == {row.name for row in totals(ANATOMY_LABELS)}
    assert not_measured(*bare, HIPPOCAMPUS_LABELS, cut=False) == {}


# Predicted distribution


@given(st.floats(1e-3, 1e3), st.floats(1.0001, 20.0))
def test_the_predicted_distribution_has_the_interval_for_its_own(low, width):
    from scipy.stats import lognorm

    row = StructureVolume(17, "Left-Hippocampus", low, low, low * width)
    found = row.distribution
    assert found is not None
    s = math.log(width) / (2 * 1.959964)
    same = lognorm(s, scale=found.median_ml)
    assert same.interval(0.95) == pytest.approx((low, low * width), rel=1e-5)
    assert same.mean() == pytest.approx(found.mean_ml)
    assert same.std() == pytest.approx(found.sd_ml, rel=1e-4)
    assert same.ppf([0.25, 0.75]) == pytest.approx(
        [found.lower_quartile_ml, found.upper_quartile_ml], rel=1e-5
    )


def test_nothing_is_predicted_of_what_may_not_be_there():
    assert StructureVolume(17, "Left-Hippocampus", 0.0, 0.0, 2.0).distribution is None
