"""What stands out of a result: the limit of each structure, and regions by size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ddmseg.imaging.grid import Grid
from ddmseg.quality.appearance import unlikeness
from ddmseg.quality.plausibility import UNLIKE_ML, unlike
from ddmseg.quality.reasons import subject
from ddmseg.quality.standing_out import (
    LEAST_ML,
    averaged,
    beyond_usual,
    highest,
    measures,
    standing_out,
    usual_limits,
)

MM = (1.0, 1.0, 1.0)
SHAPE = (40, 40, 40)
GRID = Grid(SHAPE, np.eye(4))
LEFT, RIGHT = 3, 42
LIMITS = {"Left-Cerebral-Cortex": 0.4, "Right-Cerebral-Cortex": 0.8}
USUAL = {"discrepancy": LIMITS, "intensity": dict.fromkeys(LIMITS, 1.5)}


def two_halves() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    labels[2:20, 2:38, 2:38], labels[20:38, 2:38, 2:38] = LEFT, RIGHT
    return labels


def flat(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def with_ball(centre: tuple[int, int, int], radius: float, value: float) -> np.ndarray:
    D = flat(0.1)
    place = np.stack(np.indices(SHAPE), axis=-1)
    D[np.linalg.norm(place - centre, axis=-1) <= radius] = value
    return D


@pytest.mark.parametrize("value", [0.0, 0.4, 3.0])
def test_the_average_of_one_value_is_that_value_up_to_the_edge_of_the_labels(value) -> None:
    labels = two_halves()
    D = averaged(flat(value), labels, MM)
    assert D[labels > 0] == pytest.approx(value, abs=1e-5)
    assert not D[labels == 0].any()


def test_what_lies_outside_the_labels_does_not_count() -> None:
    labels = two_halves()
    D = np.where(labels > 0, flat(0.2), flat(50.0))
    assert averaged(D, labels, MM).max() == pytest.approx(0.2, abs=1e-5)


def test_the_average_is_over_millimetres_whatever_the_voxels_measure() -> None:
    labels = np.ones((30, 30, 30), np.int32)
    D = np.zeros(labels.shape, np.float32)
    D[15] = 1.0
    fine, coarse = averaged(D, labels, (0.5, 1.0, 1.0)), averaged(D, labels, MM)
    assert fine[15, 15, 15] < coarse[15, 15, 15]
    assert fine[17, 15, 15] == pytest.approx(coarse[16, 15, 15] / 2, rel=0.1)


def test_each_structure_is_measured_against_its_own_limit() -> None:
    labels = two_halves()
    assert beyond_usual(flat(0.4), labels, LIMITS)[labels == LEFT] == pytest.approx(0.5)
    assert beyond_usual(flat(0.4), labels, LIMITS)[labels == RIGHT] == pytest.approx(0.25)
    assert beyond_usual(flat(9.0), labels, LIMITS).max() == 1.0


def test_a_structure_without_a_limit_and_an_id_of_nobody_stand_out_never() -> None:
    labels = np.where(two_halves() == LEFT, 99_999, two_halves())
    found = beyond_usual(flat(9.0), labels, {"Left-Hippocampus": 0.1})
    assert not found.any()


def test_the_limit_is_what_hardly_any_voxel_of_intact_scans_exceeds() -> None:
    labels = two_halves()
    scans = [highest(measures(flat(value), None, labels, MM), labels) for value in (0.2, 0.4)]
    assert scans[0] == {"discrepancy": dict.fromkeys(LIMITS, pytest.approx(0.2))}
    limits = usual_limits(scans)
    assert limits == {"discrepancy": dict.fromkeys(LIMITS, pytest.approx(0.3 + 2 * 0.1))}
    assert standing_out(flat(0.4), None, labels, limits, GRID).regions == []


def test_a_sliver_of_a_structure_says_nothing_of_what_is_usual() -> None:
    labels = two_halves()
    labels[0, 0, :10] = 17
    assert set(highest({"discrepancy": flat(0.2)}, labels)["discrepancy"]) == set(LIMITS)


def test_regions_come_by_size_with_place_and_structure() -> None:
    labels = two_halves()
    D = np.maximum(with_ball((10, 10, 10), 4.0, 2.0), with_ball((30, 28, 20), 6.0, 4.0))
    found = standing_out(D, None, labels, USUAL, GRID)
    assert [one.index for one in found.regions] == [RIGHT, LEFT]
    first, second = found.regions
    assert first.position_mm == pytest.approx((30, 28, 20), abs=1)
    assert second.position_mm == pytest.approx((10, 10, 10), abs=1)
    assert first.volume_ml > second.volume_ml > LEAST_ML
    assert second.expected_error_ml / second.volume_ml == pytest.approx(1 - np.exp(-2), abs=0.4)
    voxels = sum(one.volume_ml for one in found.regions) * 1000
    assert voxels == pytest.approx(found.beyond.sum())


def test_a_spot_that_the_average_thins_out_is_not_listed() -> None:
    D = with_ball((10, 10, 10), 0.0, 2.0)
    assert standing_out(D, None, two_halves(), USUAL, GRID).regions == []


def test_nothing_labelled_nothing_stands_out() -> None:
    found = standing_out(flat(9.0), flat(1.0), np.zeros(SHAPE, np.int32), USUAL, GRID)
    assert found.regions == []
    assert not found.beyond.any()


def two_tissues(seed: int = 0) -> np.ndarray:
    """Return an image in which each half has an intensity of its own, with noise."""
    noise = np.random.default_rng(seed).normal(0.0, 2.0, SHAPE)
    return (np.where(two_halves() == LEFT, 100.0, 60.0) + noise).astype(np.float32)


def test_a_piece_that_looks_like_its_neighbour_is_unlike_its_structure() -> None:
    labels, image = two_halves(), two_tissues()
    ball = with_ball((10, 20, 20), 6.0, 1.0) == 1.0
    image[ball] -= 40.0
    found = standing_out(flat(0.1), image, labels, USUAL, GRID)
    assert {one.by for one in found.regions} == {"intensity"}
    assert found.unlike_index == LEFT
    assert found.unlike_ml == pytest.approx(ball.sum() / 1000, rel=0.5)
    (reason,) = unlike(dataclasses.replace(found, unlike_ml=2 * UNLIKE_ML))
    told = f"{2 * UNLIKE_ML:g} ml do not look like what they are labelled as"
    assert f"{told}, mostly Left-Cerebral-Cortex" in reason
    assert subject(reason) == "anatomy"
    assert [*unlike(dataclasses.replace(found, unlike_ml=0.9 * UNLIKE_ML))] == []


def test_noise_and_the_unit_of_intensities_are_not_unlike() -> None:
    labels, image = two_halves(), two_tissues()
    found = unlikeness(image, labels, MM)
    assert found.max() < 1.0
    assert unlikeness(-7.0 * image + 3000.0, labels, MM) == pytest.approx(found, abs=1e-3)


def test_a_slow_drift_of_the_coil_counts_little() -> None:
    shape = (120, 40, 40)
    labels = np.full(shape, LEFT, np.int32)
    noise = np.random.default_rng(1).normal(0.0, 2.0, shape)
    drift = np.linspace(-6.0, 6.0, shape[0])[:, None, None]
    drifting = unlikeness((noise + drift).astype(np.float32), labels, MM)
    assert np.percentile(drifting, 99) < 0.75 * 6.0 / 3.9  # of what it would be if it counted


def test_fluid_and_flat_structures_are_never_unlike() -> None:
    labels = np.full(SHAPE, 24, np.int32)
    assert not unlikeness(two_tissues(), labels, MM).any()
    assert not unlikeness(flat(5.0), two_halves(), MM).any()
