"""Resampling keeps means and places, does not alias, and tiles without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.imaging import resample as resampling
from ddmseg.imaging.grid import IndexMap
from ddmseg.imaging.resample import (
    AxisWeights,
    axis_weights,
    resample,
    resample_classes,
    resample_labels,
    resample_winner,
)

lengths = st.integers(1, 40)
scales = st.floats(0.2, 5.0)


def scaled(scale: float, offset: float = 0.0, axes: tuple[int, int, int] = (0, 1, 2)) -> IndexMap:
    return IndexMap(axes, (scale,) * 3, (offset,) * 3)


def outputs(weights: AxisWeights) -> slice:
    """Those that the rows of the matrix are about."""
    return slice(weights.start, weights.start + len(weights.matrix))


@given(lengths, lengths, scales, st.floats(-3, 3), st.booleans())
def test_weights_are_weighted_means(
    n: int, m: int, scale: float, offset: float, flip: bool
) -> None:
    scale, offset = (-scale, n - 1 - offset) if flip else (scale, offset)
    weights = axis_weights(n, m, scale=scale, offset=offset)
    rows = weights.matrix.numpy()
    assert (rows >= 0).all()
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    # exactly the outputs whose centre is inside the input have a row
    centres = scale * np.arange(m) + offset
    inside = np.flatnonzero((centres >= -0.5 - 1e-6) & (centres <= n - 0.5 + 1e-6))
    assert list(range(m))[outputs(weights)] == inside.tolist()


@given(lengths, scales, st.floats(-0.4, 0.4))
def test_ramps_keep_their_place(n: int, scale: float, offset: float) -> None:
    weights = axis_weights(n, n, scale=scale, offset=offset)
    centres = (scale * np.arange(n) + offset)[outputs(weights)]
    got = weights.matrix.numpy() @ np.arange(n, dtype=np.float32)
    half = max(scale, 1) / 2
    whole = (centres - half >= -0.5) & (centres + half <= n - 0.5)
    # a box cut by voxels is right to the spread of a ramp inside one voxel
    assert np.abs(got - centres)[whole].max(initial=0) <= (1e-4 if scale <= 1 else 0.13)


def test_finer_is_linear_interpolation() -> None:
    data = np.random.default_rng(0).random(12)
    weights = axis_weights(12, 30, scale=0.37, offset=0.2)
    expected = np.interp(0.37 * np.arange(30) + 0.2, np.arange(12), data)[outputs(weights)]
    assert np.allclose(weights.matrix.numpy() @ data, expected, atol=1e-6)


def test_coarser_is_the_mean_over_the_box() -> None:
    weights = axis_weights(6, 2, scale=3.0, offset=1.0).matrix.numpy()
    assert np.allclose(weights, np.kron(np.eye(2), np.full(3, 1 / 3)))
    # a box that begins in the middle of a voxel takes half of it
    assert np.allclose(axis_weights(5, 1, scale=2.0, offset=2.0).matrix, [[0, 0.25, 0.5, 0.25, 0]])


def test_checkerboard_does_not_alias() -> None:
    board = (np.indices((32, 32, 32)).sum(0) % 2).astype(np.float32)
    for scale in (2.0, 2.5, 3.7):
        out = resample(board, scaled(scale, 0.5 * scale), (8, 8, 8))
        assert np.abs(out[1:-1, 1:-1, 1:-1] - 0.5).max() < 0.1


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_permuted_flipped_shifted_copy_is_exact(axes: tuple[int, int, int]) -> None:
    data = np.random.default_rng(1).random((4, 5, 6)).astype(np.float32)
    shape = tuple(data.shape[a] for a in axes)
    flips = (-1.0, 1.0, -1.0)
    offsets = tuple(n - 1.0 if f < 0 else 0.0 for n, f in zip(shape, flips, strict=True))
    out = resample(data, IndexMap(axes, flips, offsets), shape)
    assert np.array_equal(out, data.transpose(axes)[::-1, :, ::-1])


def test_outside_is_filled() -> None:
    out = resample(np.ones((4, 4, 4)), scaled(1.0, -2.0), (8, 8, 8), fill=7.0)
    assert (out[2:6, 2:6, 2:6] == 1).all()
    assert (out == 7).sum() == 8**3 - 4**3
    nowhere = resample(np.ones((4, 4, 4)), scaled(1.0, 50.0), (3, 3, 3), fill=-1.0)
    assert (nowhere == -1).all()


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.3, 2.5), st.floats(-2, 4), st.permutations(range(3)))
def test_winner_is_the_argmax_of_all_classes(
    seed: int, scale: float, offset: float, axes: list[int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sharp = 0.5 + 6 * torch.rand((), generator=generator)
    classes = torch.softmax(sharp * torch.randn(6, 9, 10, 11, generator=generator), 0)
    index_map = scaled(scale, offset, (axes[0], axes[1], axes[2]))
    shape = (14, 13, 12)
    full = resample_classes(classes, index_map, shape)
    best = np.sort(full, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    winner = resample_winner(classes, index_map, shape)
    assert np.array_equal(winner[clear], full.argmax(-1)[clear])


def test_winner_needs_no_probabilities_that_sum_to_one() -> None:
    scores = torch.rand(4, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    full = resample_classes(scores, scaled(0.5), (15, 15, 15))
    assert np.array_equal(resample_winner(scores, scaled(0.5), (15, 15, 15)), full.argmax(-1))


def test_tiles_have_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = torch.softmax(
        4 * torch.randn(5, 20, 20, 20, generator=torch.Generator().manual_seed(3)), 0
    )
    labels = classes.argmax(0).numpy()
    shape = (45, 44, 43)
    whole = resample_winner(classes, scaled(0.45, 0.1), shape)
    coarse = resample_labels(labels, scaled(1.7, 0.3), (11, 11, 11))
    for tile in (5, 16, 100):
        monkeypatch.setattr(resampling, "TILE", tile)
        assert np.array_equal(resample_winner(classes, scaled(0.45, 0.1), shape), whole)
        assert np.array_equal(resample_labels(labels, scaled(1.7, 0.3), (11, 11, 11)), coarse)


def test_ties_go_to_the_background_and_the_lowest_id() -> None:
    equal = torch.full((3, 4, 4, 4), 1 / 3)
    assert (resample_winner(equal, scaled(0.5), (8, 8, 8)) == 0).all()
    halves = np.repeat([9, 3], 1).reshape(2, 1, 1) * np.ones((1, 2, 2), int)
    index_map = IndexMap((0, 1, 2), (2.0, 1.0, 1.0), (0.5, 0.0, 0.0))
    assert (resample_labels(halves, index_map, (1, 2, 2)) == 3).all()


def test_labels_take_the_largest_share() -> None:
    labels = np.zeros((4, 2, 2), np.uint16)
    labels[0], labels[1], labels[2:] = 5, 1000, 7
    index_map = IndexMap((0, 1, 2), (4.0, 2.0, 2.0), (1.5, 0.5, 0.5))
    out = resample_labels(labels, index_map, (1, 1, 1))
    assert out.dtype == np.uint16
    assert out.item() == 7


def test_labels_outside_are_zero() -> None:
    out = resample_labels(np.full((2, 2, 2), 4), scaled(1.0, -1.0), (4, 4, 4))
    assert out.sum() == 8 * 4
    assert out[0].max() == 0


def test_classes_outside_are_background() -> None:
    classes = torch.zeros(2, 2, 2, 2)
    classes[1] = 1
    out = resample_classes(classes, scaled(1.0, -1.0), (4, 4, 4))
    assert np.allclose(out.sum(-1), 1)
    assert out[..., 1].sum() == 8
    assert (out[0, ..., 0] == 1).all()
