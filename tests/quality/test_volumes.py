"""Volumes and their intervals, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.checkpoint import Card
from ddmseg.quality.segmentation import StructureVolume
from ddmseg.quality.volumes import structure_volumes

EXPECTED = Expectation(
    size=torch.tensor([90.0, 10.0, 0.0]),
    hits=torch.tensor([88.0, 8.0, 0.0]),
    missed=torch.tensor([1.0, 3.0, 0.0]),
)


def volumes(
    factor: float | None = None, expected: Expectation = EXPECTED, **single: dict[str, float]
) -> list[StructureVolume]:
    calibration = {} if factor is None else {"volume_interval_factor": factor, **single}
    card = Card("toy", (0, 17, 53), {}, calibration=calibration)
    labels = np.zeros((10, 10, 10), np.int32)
    labels[:2, :5, :5] = 17
    return structure_volumes(card, labels, 0.002, expected, expected_voxel_ml=0.008)


def test_voxels_times_their_volume() -> None:
    left, right = volumes()
    assert left.name == "Left-Hippocampus"
    assert left.volume_ml == pytest.approx(0.1)
    assert (right.volume_ml, right.interval_low_ml, right.interval_high_ml) == (0.0, 0.0, 0.0)


def test_doubt_of_the_model_grid_bounds_the_volume() -> None:
    """Of 10 voxels 2 are expected to be wrong and 3 missed: 20% down, 30% up."""
    left = volumes()[0]
    assert left.interval_low_ml == pytest.approx(0.08)
    assert left.interval_high_ml == pytest.approx(0.13)


def test_the_measured_factor_widens_and_never_passes_zero() -> None:
    assert volumes(2.0)[0].interval_high_ml == pytest.approx(0.16)
    assert volumes(9.0)[0].interval_low_ml == 0.0


def test_a_structure_found_nowhere_may_be_as_large_as_what_is_missed() -> None:
    missed = replace(EXPECTED, missed=torch.tensor([1.0, 3.0, 30.0]))
    right = volumes(1.5, missed)[1]
    assert (right.volume_ml, right.interval_low_ml) == (0.0, 0.0)
    assert right.interval_high_ml == pytest.approx(1.5 * 30 * 0.008)


def test_a_structure_has_its_own_factor_where_one_was_measured() -> None:
    own = {"volume_interval_factors": {"Left-Hippocampus": 3.0}}
    assert volumes(2.0, **own)[0].interval_high_ml == pytest.approx(0.1 * (1 + 3 * 0.3))
    other = {"volume_interval_factors": {"Right-Hippocampus": 3.0}}
    assert volumes(2.0, **other)[0].interval_high_ml == pytest.approx(0.1 * (1 + 2 * 0.3))
