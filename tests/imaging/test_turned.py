"""Grids askew to each other: values, labels and probabilities there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddmseg.errors import ScanError
from ddmseg.imaging.grid import Grid, TurnedMap
from ddmseg.imaging.preprocess import Prepared, prepare
from ddmseg.imaging.repairs import OBLIQUE_DEGREES
from ddmseg.imaging.resample import (
    resample,
    resample_classes,
    resample_labels,
    resample_winner,
)
from ddmseg.imaging.scan_checks import checked_scan
from ddmseg.imaging.volume import Volume

RNG = np.random.default_rng(0)


def askew(degrees: float, spacing: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Indices of an output to those of an input, turned about (10, 10, 10)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[:3, :3] = spacing * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    matrix[:3, 3] = 10 + shift - matrix[:3, :3] @ [10, 10, 10]
    return matrix


def oblique(degrees: float, spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> Grid:
    """A box of about 100 mm in the middle of the world, tilted about R."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag(spacing)
    shape = tuple(round(84 / edge) for edge in spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def blob(grid: Grid) -> np.ndarray:
    """An ellipsoid that lies along the axes of the world, with noise in and around it."""
    places = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))
    inside = (((places - [3, -4, 2]) / [20, 30, 25]) ** 2).sum(-1) < 1
    rng = np.random.default_rng(1)
    return np.where(inside, 100, 5) + rng.normal(0, 1, grid.shape)


def scan(grid: Grid) -> Volume:
    return Volume(blob(grid).astype(np.float32), grid.affine, "scan")


# the sampling itself


@pytest.mark.parametrize("degrees", [0.0, 17.0, -50.0, 90.0])
def test_values_are_those_of_linear_interpolation(degrees: float) -> None:
    data = RNG.random((37, 41, 20)).astype(np.float32)
    matrix = askew(degrees)
    found = resample(data, TurnedMap(matrix), (45, 35, 22), fill=-1.0)
    expected = ndimage.affine_transform(
        data.astype(float), matrix, output_shape=(45, 35, 22), order=1, mode="nearest"
    )
    places = np.moveaxis(np.indices(found.shape), 0, -1) @ matrix[:3, :3].T + matrix[:3, 3]
    last = np.array(data.shape) - 1
    outside = ((places < -0.5 - 1e-4) | (places > last + 0.5 + 1e-4)).any(-1)
    border = ((places < -0.5 + 1e-4) | (places > last + 0.5 - 1e-4)).any(-1)
    assert (found[outside] == -1.0).all()
    assert outside.any()
    assert np.abs(found - expected)[~border].max() < 1e-4


def test_coarser_outputs_are_means_and_do_not_alias() -> None:
    noise = RNG.normal(0, 1, (60, 60, 60))
    found = resample(noise, TurnedMap(askew(20.0, 4.0, 10.0)), (12, 12, 12))
    assert found[3:9, 3:9, 3:9].std() < 0.25  # of single voxels it would be 0.5 and more


def test_winner_labels_and_classes_agree() -> None:
    labels = np.kron(RNG.integers(0, 5, (4, 4, 3)), np.ones((10, 10, 8), int))
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), 5).permute(3, 0, 1, 2).float()
    turned, shape = TurnedMap(askew(25.0)), (44, 40, 26)
    winner = resample_winner(one_hot, turned, shape)
    full = resample_classes(one_hot, turned, shape)
    assert np.array_equal(winner, full.argmax(-1))
    assert np.array_equal(winner, resample_labels(labels, turned, shape))
    assert np.allclose(full.sum(-1), 1.0, atol=1e-4)
    nowhere = resample_winner(one_hot, TurnedMap(askew(0.0, shift=500.0)), shape)
    assert not nowhere.any()


# scans that lie askew


@pytest.mark.parametrize(("degrees", "turned"), [(0, False), (10, False), (14, True), (-40, True)])
def test_scans_are_turned_from_some_degrees_on(degrees: float, turned: bool) -> None:
    grid = oblique(degrees)
    prepared = prepare(scan(grid), spacing_mm=4.0, crop_to_head=False)
    assert prepared.is_turned == turned == (abs(degrees) > OBLIQUE_DEGREES)
    assert (prepared.grid.oblique_degrees < 1e-6) == (turned or degrees == 0)
    steps = [step for step in prepared.describe() if step["step"] == "turn"]
    assert [round(step["oblique_degrees"]) for step in steps] == [abs(degrees)] * turned


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.6, 1.2, 5.0)])
@pytest.mark.parametrize("degrees", [20.0, 33.0])
def test_a_turned_scan_is_the_upright_one(
    degrees: float, spacing: tuple[float, float, float], crop: bool
) -> None:
    prepared = prepare(scan(oblique(degrees, spacing)), spacing_mm=2.0, crop_to_head=crop)
    low = np.where(blob(prepared.grid) > 50, 1.0, 0.0)
    inside = prepared.image > 0.5
    assert 2 * (inside & (low > 0)).sum() / (inside.sum() + (low > 0).sum()) > 0.93


def truth(prepared: Prepared) -> np.ndarray:
    return (blob(prepared.grid) > 50).astype(np.int64)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.5, 1.0, 6.0), (3.5, 3.5, 3.5)])
def test_labels_return_to_the_grid_of_the_scan(spacing: tuple[float, float, float]) -> None:
    grid = oblique(30.0, spacing)
    prepared = prepare(scan(grid), spacing_mm=2.0)
    p = torch.nn.functional.one_hot(torch.from_numpy(truth(prepared)), 2).permute(3, 0, 1, 2)
    labels = prepared.labels_to_input(p.float(), (0, 17))
    assert labels.shape == grid.shape
    expected = blob(grid) > 50
    assert 2 * ((labels == 17) & expected).sum() / ((labels == 17).sum() + expected.sum()) > 0.95
    assert np.array_equal(prepared.classes_to_input(truth(prepared), (0, 17)), labels)
    p_there = prepared.probabilities_to_input(p.float())
    assert p_there.shape == (*grid.shape, 2)
    assert np.array_equal(p_there.argmax(-1) * 17, labels)
    back = prepared.labels_from_input(labels)
    assert 2 * ((back == 17) & (truth(prepared) == 1)).sum() / (
        (back == 17).sum() + truth(prepared).sum()
    ) > (0.9 if max(spacing) > 3 else 0.95)


def test_a_map_returns_to_the_place_it_came_from() -> None:
    grid = oblique(25.0)
    prepared = prepare(scan(grid), spacing_mm=2.0, crop_to_head=False)
    ramp = prepared.grid.world(np.moveaxis(np.indices(prepared.grid.shape), 0, -1).astype(float))
    for axis in range(3):
        found = prepared.map_to_input(ramp[..., axis], fill=np.nan)
        own = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1).astype(float))[..., axis]
        # float32 coordinates in a tile of 32 voxels of 2 mm
        assert np.abs(found - own).max() < 1e-3


def test_a_little_shear_is_straightened_and_much_is_refused() -> None:
    grid = oblique(0.0)
    affine = grid.affine.copy()
    affine[0, 1] = 0.1
    prepared = prepare(scan(Grid(grid.shape, affine)), spacing_mm=4.0, crop_to_head=False)
    (step,) = (step for step in prepared.describe() if step["step"] == "turn")
    assert step["shear_degrees"] == pytest.approx(2.86, abs=0.01)
    assert prepared.grid.shear_degrees < 1e-6
    affine[0, 1] = 0.9
    with pytest.raises(ScanError, match="24 degrees from right angles; at most 20"):
        checked_scan(blob(grid), affine, "scan")


def test_a_large_scan_gets_larger_voxels_and_not_more_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ddmseg.imaging.repairs.MOST_VOXELS", 20_000)
    prepared = prepare(scan(oblique(30.0)), spacing_mm=2.0, crop_to_head=False)
    (step,) = (step for step in prepared.describe() if step["step"] == "turn")
    assert np.prod(step["shape"]) < 25_000
    assert step["spacing_mm"] > 3 > min(scan(oblique(30.0)).spacing_mm)
