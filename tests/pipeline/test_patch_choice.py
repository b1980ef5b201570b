"""Where level 2 looks: everything doubtful is covered, by patches within the grid."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.pipeline.patch_choice import MARGIN, PAYS, choose_patches

CELL = 4


def cells(values: Tensor) -> Tensor:
    n = [size // CELL for size in values.shape]
    return values.reshape(n[0], CELL, n[1], CELL, n[2], CELL).sum((1, 3, 5))


@given(
    seed=st.integers(0, 1000),
    grid=st.tuples(*[st.integers(3, 7)] * 3),
    patch=st.tuples(*[st.integers(1, 5)] * 3),
    share=st.floats(0.0, 0.2),
)
def test_every_doubtful_cell_lies_in_a_patch(seed, grid, patch, share) -> None:
    draw = torch.Generator().manual_seed(seed)
    inside = torch.rand([n * CELL for n in grid], generator=draw) < share
    doubt = torch.rand(inside.shape, generator=draw) ** 4 * inside
    size = [CELL * min(p, n) for p, n in zip(patch, grid, strict=True)]
    boxes = choose_patches(doubt, inside, size, CELL)
    seen = torch.zeros(inside.shape)
    for box in boxes:
        for edge, n, axis in zip(box, size, inside.shape, strict=True):
            assert edge.stop - edge.start == n
            assert 0 <= edge.start <= edge.stop <= axis
            assert edge.start % CELL == 0
        seen[box] = 1
    wrong = cells(doubt)
    paying = (wrong > 0) & (wrong >= PAYS * cells(inside.float()))
    assert bool((cells(seen)[paying] == CELL**3).all())
    assert len(boxes) <= int(paying.sum())


def test_the_place_with_the_most_doubt_is_first_and_far_from_the_border_of_its_patch() -> None:
    inside = torch.zeros(40, 40, 40, dtype=torch.bool)
    inside[4:8, 4:8, 4:8] = inside[20:24, 20:24, 20:24] = True
    doubt = 0.1 * inside
    doubt[20:24, 20:24, 20:24] = 0.5
    first, second = choose_patches(doubt, inside, (16, 16, 16), CELL)
    for edge in first:
        assert edge.start + MARGIN * CELL <= 20 < 24 <= edge.stop - MARGIN * CELL
    assert all(edge.start <= 4 < 8 <= edge.stop for edge in second)


def test_certain_places_are_left_alone() -> None:
    inside = torch.ones(24, 24, 24, dtype=torch.bool)
    assert choose_patches(0.5 * PAYS * inside, inside, (16, 16, 16), CELL) == []
