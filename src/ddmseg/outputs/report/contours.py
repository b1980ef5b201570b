"""Outlines of labels as paths: sharp at any size, and small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.labels import labelled_box

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_STEP = ((0, 1), (1, 0), (0, -1), (-1, 0))  # row and column of one step in each direction


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask (row, column) as the ``d`` of an SVG path; "" without any.

    The unit is half a pixel, from the outer corner of pixel (0, 0). The path joins the middles
    of the pixel edges that part inside from outside, as marching squares does at the level 0.5.
    Pixels that touch at a corner stay apart.
    """
    return "".join(_path(points) for points in loops(mask))


def loops(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the closed outlines as (x, y) in half pixels: clockwise, holes the other way."""
    if not mask.any():
        return []
    # a structure is a small part of its slice
    box = labelled_box(mask.view(np.uint8))
    row, column, direction = _edges(mask[box])
    following = _successors(row, column, direction, mask[box].shape)
    row, column = row + box[0].start, column + box[1].start
    middle = np.stack([2 * column, 2 * row], axis=1) + np.array(_STEP)[direction][:, ::-1]
    found: list[NDArray[np.int64]] = []
    seen = np.zeros(len(row), dtype=bool)
    for first in range(len(row)):
        if seen[first]:
            continue
        loop = [first]
        while (nxt := int(following[loop[-1]])) != first:
            loop.append(nxt)
        seen[loop] = True
        found.append(_corners(middle[loop]))
    return found


def _edges(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row and column where each border edge starts and its direction, inside on the right."""
    padded = np.pad(mask, 1)
    outside = (
        (_RIGHT, ~padded[:-2, 1:-1], (0, 0)),
        (_DOWN, ~padded[1:-1, 2:], (0, 1)),
        (_LEFT, ~padded[2:, 1:-1], (1, 1)),
        (_UP, ~padded[1:-1, :-2], (1, 0)),
    )
    parts = []
    for direction, free, (below, beside) in outside:
        row, column = np.nonzero(mask & free)
        parts.append((row + below, column + beside, np.full(len(row), direction)))
    row, column, way = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, column, way


def _successors(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    direction: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """Which edge follows each: the sharpest right turn, so that corner contacts stay apart."""
    table = np.full((shape[0] + 1, shape[1] + 1, 4), -1)
    table[row, column, direction] = np.arange(len(row))
    step = np.array(_STEP)[direction]
    end_row, end_column = row + step[:, 0], column + step[:, 1]
    following = np.full(len(row), -1)
    for turn in (3, 0, 1):  # left, straight, right: the last one that exists wins
        candidate = table[end_row, end_column, (direction + turn) % 4]
        following = np.where(candidate >= 0, candidate, following)
    return following


def _corners(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out the points inside straight runs."""
    around = np.concatenate([points[-1:], points, points[:1]])
    step = np.diff(around, axis=0)
    turning: NDArray[np.bool_] = (step[1:] != step[:-1]).any(axis=1)
    return points[turning]


def _path(points: NDArray[np.int64]) -> str:
    steps = np.diff(points, axis=0).ravel().tolist()
    # a minus sign parts two numbers as well as a space does
    text = "".join(f"{value}" if value < 0 else f" {value}" for value in steps)
    return f"M{points[0, 0]} {points[0, 1]}l{text.lstrip()}z"
