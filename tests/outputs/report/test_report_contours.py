"""Outlines: exact small ones, and the law that they enclose what they were drawn from."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddmseg.outputs.report.contours import loops, outline

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def enclosed(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd rule at the pixel centres, by a ray to the right."""
    row, column = np.indices(shape)
    x, y = 2 * column + 1, 2 * row + 1
    crossings = np.zeros(shape, dtype=int)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        # half-open in y, so that a vertex at the ray's height counts once
        straddles = (y0 <= y) != (y1 <= y)
        if y0 != y1:
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            crossings += straddles & (at > x)
    return crossings % 2 == 1


def signed_area(points: np.ndarray) -> float:
    """Shoelace formula in square half pixels; above 0 is clockwise on the screen."""
    ahead = np.roll(points, -1, axis=0)
    return float((points[:, 0] * ahead[:, 1] - ahead[:, 0] * points[:, 1]).sum() / 2)


def test_one_pixel_is_a_diamond() -> None:
    assert outline(np.array([[True]])) == "M1 0l1 1-1 1-1-1z"


def test_a_square_loses_its_corners_only() -> None:
    (points,) = loops(np.ones((3, 3), dtype=bool))
    # 36 square half pixels less four corners of half a one
    assert signed_area(points) == 34.0
    assert len(points) == 8


def test_a_hole_runs_the_other_way() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    areas = sorted(signed_area(points) for points in loops(mask))
    assert areas == [-2.0, 34.0]


@pytest.mark.parametrize("mask", [np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]])
def test_pixels_that_touch_at_a_corner_stay_apart(mask: np.ndarray) -> None:
    assert [signed_area(points) for points in loops(mask)] == [2.0, 2.0]


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(np.zeros((4, 5), dtype=bool)) == ""


@given(MASKS)
def test_the_outlines_enclose_exactly_the_mask(mask: np.ndarray) -> None:
    inside = np.zeros(mask.shape, dtype=int)
    for points in loops(mask):
        inside += enclosed(points, mask.shape)
    np.testing.assert_array_equal(inside % 2 == 1, mask)


@given(MASKS)
def test_the_path_text_says_the_same_as_the_loops(mask: np.ndarray) -> None:
    expected = [points.tolist() for points in loops(mask)]
    read = []
    for start, steps in re.findall(r"M(\d+ \d+)l([^z]*)z", outline(mask)):
        first = np.array([int(v) for v in start.split()])
        moves = np.array([int(v) for v in re.findall(r"-?\d+", steps)]).reshape(-1, 2)
        read.append(np.vstack([first, first + np.cumsum(moves, axis=0)]).tolist())
    assert read == expected
