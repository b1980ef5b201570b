"""Intervals of volumes by the samples of the diffusion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.card import Card
from ddmseg.networks.ensemble import Answer
from ddmseg.quality.sampled_volumes import drawn_to_usual, log_spread, sampled_bounds
from ddmseg.quality.volumes import Measured, pairs, structures

LABELS = (0, 17, 53)
KNOWN = {"Left-Hippocampus": [0.1, 2.0, 0.05], "Hippocampus": [0.0, 1.0, 0.02]}
CARD = Card(
    name="toy",
    labels=LABELS,
    settings={"sampling": {"samples": 3}},
    data="",
    licence="",
    scores={},
    trained_steps=1,
    calibration={
        "volume_ratios": {"Left-Hippocampus": [-0.5, 0.5], "Right-Hippocampus": [-0.5, 0.5]},
        "sample_intervals": KNOWN,
    },
)
VOLUMES = torch.tensor([[900.0, 80.0, 50.0], [880.0, 100.0, 50.0], [860.0, 120.0, 50.0]])


def answer(volumes: torch.Tensor = VOLUMES) -> Answer:
    weights = torch.full((len(volumes),), 1 / len(volumes))
    return Answer(torch.zeros(1, 3, 1, 1, 1), weights, volumes, 10)


@given(st.lists(st.floats(1, 1e5), min_size=2, max_size=9))
def test_equal_weights_give_the_deviation_of_the_log(volumes):
    table = torch.tensor(volumes, dtype=torch.float64)[:, None]
    weights = torch.full((len(volumes),), 1 / len(volumes), dtype=torch.float64)
    assert float(log_spread(table, weights)) == pytest.approx(np.log(volumes).std(ddof=1), abs=1e-6)


def test_a_sample_with_all_the_weight_tells_no_spread():
    assert float(log_spread(VOLUMES[:, 1:2], torch.tensor([1.0, 0.0, 0.0]))) == 0.0


def test_a_structure_that_a_sample_lacks_is_finite():
    assert math.isfinite(float(log_spread(torch.tensor([[0.0], [9.0]]), torch.tensor([0.5, 0.5]))))


def test_few_samples_are_drawn_to_the_usual_spread():
    assert drawn_to_usual(0.0, 0.1) == 0.1
    assert drawn_to_usual(0.1, 0.1) == 0.2
    assert drawn_to_usual(9.0, 0.1) == pytest.approx(0.4)


def test_bounds_by_hand():
    spread = np.log([80, 100, 120]).std(ddof=1)
    reach = 2 * (min(spread, 0.15) + 0.05)
    found = sampled_bounds(CARD, answer(), "Left-Hippocampus", (17,), 100.0)
    assert found == pytest.approx((0.1 - reach, 0.1 + reach))
    # Where the labels hold less than the samples on average, so much more is above them.
    more = math.log(100 / 90)
    found = sampled_bounds(CARD, answer(), "Left-Hippocampus", (17,), 90.0)
    assert found == pytest.approx((0.1 + more - reach, 0.1 + more + reach))


def test_bounds_hold_the_volume_found():
    card = replace(CARD, calibration={"sample_intervals": {"Left-Hippocampus": [1.0, 0.1, 0.01]}})
    low, high = sampled_bounds(card, answer(), "Left-Hippocampus", (17,), 100.0)
    assert low == 0.0 < high


@pytest.mark.parametrize(
    ("drawn", "name"),
    [
        (None, "Left-Hippocampus"),
        (answer(VOLUMES[:2]), "Left-Hippocampus"),  # fewer than the card draws
        (answer(), "Right-Hippocampus"),  # never measured
    ],
)
def test_without_enough_samples_or_a_measurement_there_are_none(drawn, name):
    assert sampled_bounds(CARD, drawn, name, (17,), 100.0) is None


def test_the_interval_of_a_scan_is_that_of_its_samples_where_known():
    size = torch.tensor([900.0, 100.0, 50.0])
    expected = Expectation(size=size, hits=0.9 * size, missed=0.1 * size)
    found_ml = {17: 0.1, 53: 0.05}
    plain = Measured(CARD, found_ml, expected, expected_voxel_ml=0.001)
    sampled = Measured(CARD, found_ml, expected, expected_voxel_ml=0.001, answer=answer())
    by_doubt, by_samples = (
        [one.row(quantity) for quantity in structures(LABELS)] for one in (plain, sampled)
    )
    low, high = sampled_bounds(CARD, answer(), "Left-Hippocampus", (17,), 100.0)
    assert by_samples[0].interval_low_ml == pytest.approx(0.1 * math.exp(low))
    assert by_samples[0].interval_high_ml == pytest.approx(0.1 * math.exp(high))
    assert by_samples[0] != by_doubt[0]
    assert by_samples[1] == by_doubt[1]  # no bounds by samples on the card


def test_a_pair_differs_as_its_sum_does():
    (pair,) = pairs(LABELS)
    spread = np.log([130, 150, 170]).std(ddof=1)
    reach = min(spread, 0.06) + 0.02
    assert sampled_bounds(CARD, answer(), pair.name, pair.ids, 150.0) == pytest.approx(
        (-reach, reach)
    )
