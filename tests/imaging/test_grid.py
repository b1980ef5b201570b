"""Index maps compose and invert; every one of the 48 orientations goes to RAS and back."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.imaging.grid import Grid, IndexMap, three, to_closest_ras, triple

ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]

index_maps = st.builds(
    IndexMap,
    st.permutations(range(3)).map(tuple),
    st.tuples(*[st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0])] * 3),
    st.tuples(*[st.floats(-20, 20, allow_subnormal=False)] * 3),
)


@given(index_maps, index_maps)
def test_composition_is_the_matrix_product(first: IndexMap, second: IndexMap) -> None:
    assert np.allclose(first.then(second).matrix, second.matrix @ first.matrix)


@given(index_maps)
def test_inverse_undoes(index_map: IndexMap) -> None:
    assert np.allclose(index_map.inverse().matrix @ index_map.matrix, np.eye(4), atol=1e-9)
    assert np.allclose(index_map.then(index_map.inverse()).matrix, np.eye(4), atol=1e-9)


def test_inverse_has_no_negative_zero() -> None:
    offsets = IndexMap.identity().inverse().offset
    assert [np.signbit(offset) for offset in offsets] == [False] * 3


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_goes_to_ras(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag([0.9, 1.5, 5.0])[:, order] * flips
    affine[:3, 3] = [3, -20, 7]
    grid = Grid((4, 6, 8), affine)
    index_map, shape = to_closest_ras(grid)
    ras = grid.seen_through(index_map, shape)
    assert ras.orientation == "RAS"
    assert ras.spacing_mm == pytest.approx((0.9, 1.5, 5.0))
    # the same voxels in the same places
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in shape])), dtype=float)
    there = {tuple(p) for p in ras.world(corners).round(6).tolist()}
    own = np.array(list(itertools.product(*[(0, n - 1) for n in grid.shape])), dtype=float)
    assert there == {tuple(p) for p in grid.world(own).round(6).tolist()}


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::5])
def test_orientation_agrees_with_nibabel(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    rotation, _ = np.linalg.qr(
        np.eye(3) + 0.15 * np.array([[0, 1, -1], [-1, 0, 0.5], [1, -0.5, 0]])
    )
    rotation *= np.sign(np.diag(rotation))
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ np.diag([1, 1.2, 3]))[:, order] * flips
    assert Grid((3, 3, 3), affine).orientation == "".join(nib.aff2axcodes(affine))


def test_near_45_degrees_still_gives_a_permutation() -> None:
    for degrees in (44.9, 45.0, 45.1):
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        affine = np.eye(4)
        affine[:2, :2] = [[cosine, -sine], [sine, cosine]]
        index_map, _ = to_closest_ras(Grid((3, 4, 5), affine))
        assert sorted(index_map.axes) == [0, 1, 2]


def test_world_of_an_oblique_grid() -> None:
    affine = np.array([[0, -2, 0, 10], [1, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
    grid = Grid((2, 2, 2), affine)
    assert grid.world(np.array([1.0, 1.0, 1.0])).tolist() == [8.0, 21.0, 33.0]
    assert grid.spacing_mm == (1.0, 2.0, 3.0)
    assert grid.orientation == "ALS"


def test_same_as_looks_at_shape_and_place() -> None:
    grid = Grid((10, 10, 10), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 0.01
    assert grid.same_as(Grid((10, 10, 10), np.eye(4)))
    assert not grid.same_as(Grid((10, 10, 11), np.eye(4)))
    assert not grid.same_as(Grid((10, 10, 10), shifted))
    assert grid.same_as(Grid((10, 10, 10), shifted), tolerance_mm=0.02)
    # a spacing error adds up to the far corner
    assert not grid.same_as(Grid((10, 10, 10), np.diag([1.001, 1, 1, 1])))


def test_grid_keeps_a_frozen_copy() -> None:
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 0] = 7
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.eye(3), "must be 4x4"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "singular"),
    ],
)
def test_bad_affines_are_refused(bad: np.ndarray, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        Grid((2, 2, 2), bad)


def test_triples_must_have_three() -> None:
    assert three([1.0, 2, 3]) == (1, 2, 3)
    assert triple([1, 2, 3]) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="unpack"):
        three([1, 2])
