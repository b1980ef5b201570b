"""Doubt: by hand, by brute force, and its laws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.uncertainty import entropy
from ddmseg_lab.statistics import (
    expected_calibration_error,
    generalised_energy_distance,
    mutual_information,
    pairwise_disagreement,
    risk_coverage_area,
)


def probabilities(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).mul(2).softmax(dim=-3)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, -3).float()


def test_samples_that_agree_have_no_mutual_information():
    samples = probabilities(2, 3, 4, 5).expand(5, -1, -1, -1, -1)
    assert mutual_information(samples).abs().max() < 1e-6


def test_certain_samples_that_differ_are_all_mutual_information():
    samples = one_hot(torch.tensor([0, 1]).reshape(2, 1, 1, 1), 2)
    assert mutual_information(samples).item() == pytest.approx(1)


def test_mutual_information_never_exceeds_the_entropy():
    samples = probabilities(6, 2, 3, 4, 5)
    part = mutual_information(samples)
    assert part.shape == (2, 1, 4, 5)
    assert (part >= 0).all()
    assert (part <= entropy(samples.mean(0))).all()
    assert part.max() > 0.01


def maps(*rows: list[int]) -> Tensor:
    """Label maps of one item, one row each: ``s b i j``."""
    return torch.tensor(rows)[:, None, None, :]


def test_disagreement_by_hand():
    # Class 1: 1 of 3 voxels shared, IoU 1/3.
    assert pairwise_disagreement(maps([1, 1, 0, 0], [0, 1, 1, 0]), classes=2).item() == (
        pytest.approx(2 / 3)
    )
    # A class that neither has is left out; one that only one has counts 0.
    assert pairwise_disagreement(maps([1, 1, 0, 0], [1, 1, 0, 2]), classes=4).item() == (
        pytest.approx(1 / 2)
    )


def test_disagreement_ends():
    assert pairwise_disagreement(maps([1, 1, 0], [1, 1, 0], [1, 1, 0]), classes=2).item() == 0
    assert pairwise_disagreement(maps([1, 0, 0], [0, 1, 0], [0, 0, 1]), classes=2).item() == 1
    assert pairwise_disagreement(maps([0, 0], [0, 0]), classes=2).item() == 0


def test_disagreement_is_the_mean_over_pairs_and_by_item():
    samples = torch.randint(0, 3, (4, 2, 5, 6), generator=torch.Generator().manual_seed(0))
    found = pairwise_disagreement(samples, classes=3)
    for item in range(2):
        pairs = [
            pairwise_disagreement(samples[[i, j], item : item + 1], classes=3).item()
            for i, j in itertools.combinations(range(4), 2)
        ]
        assert found[item].item() == pytest.approx(sum(pairs) / len(pairs))


def test_one_sample_cannot_disagree():
    with pytest.raises(SettingsError, match="samples: got 1; disagreement needs at least 2"):
        pairwise_disagreement(maps([0, 1]), classes=2)


def test_equal_sets_have_no_energy_distance():
    samples = torch.randint(0, 3, (4, 2, 5, 6), generator=torch.Generator().manual_seed(1))
    found = generalised_energy_distance(samples, samples[[2, 0, 3, 1]], classes=3)
    assert found.tolist() == pytest.approx([0, 0], abs=1e-12)


def test_energy_distance_by_hand():
    # Two references, one sample that is the first: 2 x 1/2 - 0 - 1/2
    found = generalised_energy_distance(maps([1, 0]), maps([1, 0], [0, 1]), classes=2)
    assert found.item() == pytest.approx(0.5)
    both = generalised_energy_distance(maps([1, 0], [0, 1]), maps([1, 0], [0, 1]), classes=2)
    assert both.item() == 0


def test_ece_by_hand():
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.2, 0.2])
    correct = torch.tensor([True, True, True, False, False, False])
    # Bins of 0.1: |0.9 - 0.75| for 4 of 6, |0.2 - 0| for 2 of 6
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(
        (4 * 0.15 + 2 * 0.2) / 6
    )


def test_ece_of_honest_and_of_boastful_confidence():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(50_000, generator=generator)
    honest = torch.rand(50_000, generator=generator) < confidence
    assert expected_calibration_error(confidence, honest) < 0.02
    assert expected_calibration_error(torch.ones(50_000), honest) == pytest.approx(0.5, abs=0.01)


def test_ece_counts_the_ends_and_knows_nothing():
    ends = torch.tensor([0.0, 1.0])
    assert expected_calibration_error(ends, torch.tensor([False, True])) == 0
    assert expected_calibration_error(ends, torch.tensor([True, False])) == 1
    assert math.isnan(expected_calibration_error(torch.zeros(0), torch.zeros(0)))


def test_risk_coverage_by_hand():
    area = risk_coverage_area(torch.tensor([0.3, 0.1, 0.2]), torch.tensor([1.0, 0.0, 0.5]))
    assert area == pytest.approx((0 + 0.25 + 0.5) / 3)


def test_the_order_of_ties_does_not_count():
    loss = torch.tensor([1.0, 0.0, 0.0, 1.0])
    orders = itertools.permutations(range(4))
    areas = [risk_coverage_area(torch.zeros(4), loss[torch.tensor(order)]) for order in orders]
    assert areas == pytest.approx([0.5] * 24)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_best_order_has_the_lowest_area_and_the_worst_the_highest(pairs):
    uncertainty, loss = (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))
    area = risk_coverage_area(uncertainty, loss)
    assert risk_coverage_area(loss, loss) <= area + 1e-9
    assert area <= risk_coverage_area(-loss, loss) + 1e-9


@pytest.mark.parametrize("metric", [expected_calibration_error, risk_coverage_area])
def test_bad_pairs_are_refused(metric):
    with pytest.raises(SettingsError, match=r"got shapes \(2,\) and \(3,\); both must be the same"):
        metric(torch.zeros(2), torch.zeros(3))
    with pytest.raises(SettingsError, match="scores: got NaN, which has no rank"):
        metric(torch.tensor([0.0, math.nan]), torch.zeros(2))


def test_ranges_are_refused():
    with pytest.raises(SettingsError, match=r"confidence: got 0 to 1.5; it must lie in \[0, 1\]"):
        expected_calibration_error(torch.tensor([0.0, 1.5]), torch.zeros(2))
    with pytest.raises(SettingsError, match="loss: got 0 values; give at least one"):
        risk_coverage_area(torch.zeros(0), torch.zeros(0))
    with pytest.raises(SettingsError, match=r"loss: got 2 values; .* none NaN"):
        risk_coverage_area(torch.zeros(2), torch.tensor([0.0, math.nan]))
